//! A copy of a file or tree, beside which the original could be removed: modes, times, owners, extended
//! attributes, links, devices, holes. Names that are links of one file become files of their own.
//!
//! By descriptors, so that depth has no limit but theirs, and a name that somebody exchanges meanwhile leads
//! nowhere else.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Statx, StatxAttributes,
    StatxFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fgetxattr, flistxattr,
    fsetxattr, fstat, ftruncate, mkdirat, mknodat, openat, readlinkat, seek, statat, statx,
    symlinkat, utimensat,
};
use rustix::io::Errno;

/// `bytes`
const BUFFER: usize = 256 << 10;
/// The kernel's bound on names and values of extended attributes (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_ATTRIBUTE: usize = 64 << 10;

/// A name in an open directory.
#[derive(Clone, Copy)]
pub struct Name<'a> {
    pub directory: &'a OwnedFd,
    pub name: &'a CStr,
}

/// Copies `from` to `to`, where nothing may be. The caller removes all that is there after an error.
pub fn copy(from: Name<'_>, to: Name<'_>) -> io::Result<()> {
    let mount = mount_of(from)?.stx_mnt_id;
    Copier { mount, buffer: vec![0; BUFFER].into_boxed_slice() }.entry(from, to)
}

struct Copier {
    /// The one mount of the tree.
    mount: u64,
    buffer: Box<[u8]>,
}

impl Copier {
    fn entry(&mut self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        self.check_removable(from)?;
        let status = statat(from.directory, from.name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => self.directory(from, to),
            FileType::RegularFile => self.file(from, to),
            FileType::Symlink => {
                let target = readlinkat(from.directory, from.name, Vec::new())?;
                symlinkat(target, to.directory, to.name)?;
                own(to, &status)?;
                touch(to, &status)
            }
            kind => {
                let mode = Mode::from_raw_mode(status.st_mode);
                mknodat(to.directory, to.name, kind, mode, status.st_rdev)?;
                own(to, &status)?;
                rustix::fs::chmodat(to.directory, to.name, mode, AtFlags::empty())?;
                touch(to, &status)
            }
        }
    }

    /// The refusals of unlink(2) that the rename of a tree around the entry does not meet.
    fn check_removable(&self, name: Name<'_>) -> io::Result<()> {
        let found = mount_of(name)?;
        if found.stx_mnt_id != self.mount {
            return Err(Errno::BUSY.into());
        }
        let kept = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        if found.stx_attributes.intersects(kept) {
            return Err(Errno::PERM.into());
        }
        Ok(())
    }

    fn directory(&mut self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        let source = open(from, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let status = fstat(&source)?;
        mkdirat(to.directory, to.name, Mode::RWXU)?;
        let target = open(to, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let from = Name { directory: &source, name };
                self.entry(from, Name { directory: &target, name })?;
            }
        }
        finish(&source, &target, to, &status)
    }

    fn file(&mut self, from: Name<'_>, to: Name<'_>) -> io::Result<()> {
        let source = open(from, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let status = fstat(&source)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let target = openat(to.directory, to.name, flags | OFlags::CLOEXEC, mode)?;
        let (source, target) = (File::from(source), File::from(target));
        self.content(&source, &target, status.st_size.unsigned_abs())?;
        finish(&source, &target, to, &status)
    }

    /// To the end, wherever the stated size says that it is; holes within that size stay holes.
    fn content(&mut self, source: &File, target: &File, size: u64) -> io::Result<()> {
        ftruncate(target, size)?;
        let mut at = 0;
        loop {
            at = match seek(source, SeekFrom::Data(at)) {
                Ok(data) => data,
                // A hole up to the end, or a file system that knows of no holes.
                Err(Errno::NXIO) => return Ok(()),
                Err(_) => at,
            };
            let count = match source.read_at(&mut self.buffer, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                return Ok(ftruncate(target, at)?);
            }
            target.write_all_at(&self.buffer[..count], at)?;
            at += count as u64;
        }
    }
}

fn open(name: Name<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(name.directory, name.name, flags, Mode::empty())?)
}

/// Attributes first, since some can be set only by the owner; the mode after the owner, who takes its special
/// bits away; the times last.
fn finish(source: impl AsFd, target: impl AsFd, to: Name<'_>, status: &Stat) -> io::Result<()> {
    attributes(&source, &target)?;
    own(to, status)?;
    fchmod(&target, Mode::from_raw_mode(status.st_mode))?;
    touch(to, status)
}

/// Those that the other file system takes.
fn attributes(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let mut names = vec![0; MAX_ATTRIBUTE];
    let length = match flistxattr(&source, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        result => result?,
    };
    let mut value = vec![0; MAX_ATTRIBUTE];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name)?;
        let length = fgetxattr(&source, &name, &mut value[..])?;
        match fsetxattr(&target, &name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Only root can give files away; anybody else keeps them.
fn own(name: Name<'_>, status: &Stat) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(chownat(name.directory, name.name, Some(uid), Some(gid), flags)?)
}

fn touch(name: Name<'_>, status: &Stat) -> io::Result<()> {
    let time = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(status.st_atime, status.st_atime_nsec),
        last_modification: time(status.st_mtime, status.st_mtime_nsec),
    };
    Ok(utimensat(name.directory, name.name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Which mount the name lies in, and the attributes of the file; those of a directory that something is mounted over
/// are the mounted one's.
fn mount_of(name: Name<'_>) -> io::Result<Statx> {
    Ok(statx(name.directory, name.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)?)
}

/// The directory of a path.
pub fn open_directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}
