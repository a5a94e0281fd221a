//! A walk that puts down each file as it finds it, in constant memory: of a directory it holds where it is.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use tar::EntryType;

use super::format::{self, Attributes};

/// About how long a chunk is.
const CHUNK: usize = 256 << 10;
/// Of headers that a chunk may end with.
const SLACK: usize = 16 << 10;
/// Directories in directories below the first one, each of which is an open file. Those who unpack an archive keep to
/// the same (`limits.archive` of the protocol).
const DEEPEST: usize = 256;
const PERMISSIONS: u32 = 0o777;
/// Waits for nobody, takes no terminal and follows no link.
const CAREFUL: OFlags =
    OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

pub struct Packer {
    /// The directories from the first one down, each with what is still to come of it.
    levels: Vec<Level>,
    /// Of the deepest directory from the first one, with a slash at its end; the first one's is empty.
    path: Vec<u8>,
    /// Of a file that did not fit into a chunk.
    rest: Option<Rest>,
    /// The beginning of a file, whose size is known when its end is.
    content: Vec<u8>,
    /// The next chunk, as far as it is there.
    ahead: Vec<u8>,
    has_ended: bool,
}

/// Why nothing more can be packed.
#[derive(Debug)]
pub struct Failure {
    /// From the directory that is packed.
    pub path: Vec<u8>,
    pub fault: Fault,
}

#[derive(Debug)]
pub enum Fault {
    TooDeep,
    /// A file ends before the size that its entry states.
    Shorter,
    /// It goes on behind the size that it states.
    Longer,
    System(Errno),
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(to, "it lies more than {DEEPEST} directories deep"),
            Self::Shorter => to.write_str("it became shorter while it was read"),
            Self::Longer => to.write_str("it is longer than the size that it states"),
            Self::System(error) => error.fmt(to),
        }
    }
}

struct Level {
    entries: Dir,
    /// Length of the path of the directory that it is in.
    above: usize,
}

struct Rest {
    file: OwnedFd,
    path: Vec<u8>,
    /// `bytes`
    left: u64,
    size: u64,
}

impl Packer {
    /// The first entry is the directory itself, as `./`. It may be given as a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::CLOEXEC | OFlags::DIRECTORY;
        let directory = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        let status = fstat(&directory)?;
        let mut ahead = Vec::with_capacity(CHUNK + SLACK);
        begin(&mut ahead, EntryType::Directory, (b"./", b""), 0, &status);
        let level = Level { entries: Dir::new(directory)?, above: 0 };
        Ok(Self {
            levels: vec![level],
            path: Vec::new(),
            rest: None,
            content: Vec::with_capacity(CHUNK),
            ahead,
            has_ended: false,
        })
    }

    /// The next chunk; an empty one is the end.
    pub fn next(&mut self) -> Result<Vec<u8>, Failure> {
        let mut out = std::mem::take(&mut self.ahead);
        out.reserve((CHUNK + SLACK).saturating_sub(out.len()));
        while out.len() < CHUNK && !self.has_ended {
            match self.rest.take() {
                Some(rest) => self.rest = rest.read(&mut out)?,
                None => self.add_next(&mut out)?,
            }
        }
        Ok(out)
    }

    fn add_next(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(level) = self.levels.last_mut() else {
            format::end(out);
            self.has_ended = true;
            return Ok(());
        };
        let failed = |path: &[u8], fault: Fault| Failure { path: path.to_vec(), fault };
        let listed = level.entries.read().transpose();
        match listed.map_err(|error| failed(&self.path, error.into()))? {
            None => {
                self.path.truncate(level.above);
                self.levels.pop();
            }
            Some(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Some(entry) => {
                let above = self.path.len();
                self.path.extend_from_slice(entry.file_name().to_bytes());
                match self.add(out, entry.file_name(), entry.file_type()) {
                    Ok(Some(entries)) => {
                        self.levels.push(Level { entries, above });
                        return Ok(());
                    }
                    Ok(None) => {}
                    // It is gone, or another thing, since it was listed.
                    Err(Fault::System(
                        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::INVAL,
                    )) => {}
                    Err(fault) => return Err(failed(&self.path, fault)),
                }
                self.path.truncate(above);
            }
        }
        Ok(())
    }

    /// The thing of that name in the deepest directory; of a directory what is in it.
    fn add(
        &mut self,
        out: &mut Vec<u8>,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Dir>, Fault> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let directory = level.entries.fd()?;
        let look = || statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(look()?.st_mode),
            kind => kind,
        };
        match kind {
            FileType::RegularFile => {
                let file = openat(directory, name, CAREFUL, Mode::empty())?;
                let status = fstat(&file)?;
                if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
                    self.add_file(out, file, &status)?;
                }
                Ok(None)
            }
            FileType::Directory => {
                // The first one is a level, too.
                if self.levels.len() > DEEPEST {
                    return Err(Fault::TooDeep);
                }
                let flags = CAREFUL | OFlags::DIRECTORY;
                let inner = openat(directory, name, flags, Mode::empty())?;
                let status = fstat(&inner)?;
                self.path.push(b'/');
                begin(out, EntryType::Directory, (&self.path, b""), 0, &status);
                Ok(Some(Dir::new(inner)?))
            }
            FileType::Symlink => {
                let status = look()?;
                let target = readlinkat(directory, name, Vec::new())?;
                begin(out, EntryType::Symlink, (&self.path, target.to_bytes()), 0, &status);
                Ok(None)
            }
            // What cannot be packed is named as a pipe, so that a client can tell of it.
            _ => {
                begin(out, EntryType::Fifo, (&self.path, b""), 0, &look()?);
                Ok(None)
            }
        }
    }

    /// The size that a file states is believed only when more than a chunk of it is there, as in a download.
    fn add_file(&mut self, out: &mut Vec<u8>, file: OwnedFd, status: &Stat) -> Result<(), Fault> {
        let stated = u64::try_from(status.st_size).unwrap_or_default();
        let content = &mut self.content;
        content.clear();
        let mut is_whole = false;
        while !is_whole && content.len() < content.capacity() {
            let count =
                rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(content)))?;
            is_whole = count == 0 || content.len() as u64 == stated;
        }
        let size = if is_whole { content.len() as u64 } else { stated };
        // One that is longer than it states cannot be packed before its end.
        let left = size.checked_sub(content.len() as u64).ok_or(Fault::Longer)?;
        begin(out, EntryType::Regular, (&self.path, b""), size, status);
        out.extend_from_slice(content);
        if left == 0 {
            format::pad(out, size);
        } else {
            self.rest = Some(Rest { file, path: self.path.clone(), left, size });
        }
        Ok(())
    }
}

impl Rest {
    /// Reads on into what room the chunk has. `None`: that was all. A file that has become shorter is an error.
    fn read(self, out: &mut Vec<u8>) -> Result<Option<Self>, Failure> {
        let Self { file, path, left, size } = self;
        let before = out.len();
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(out)));
        if let Err(error) = read {
            return Err(Failure { path, fault: error.into() });
        }
        let count = ((out.len() - before) as u64).min(left);
        out.truncate(before + count as usize);
        match left - count {
            _ if count == 0 => Err(Failure { path, fault: Fault::Shorter }),
            0 => {
                format::pad(out, size);
                Ok(None)
            }
            left => Ok(Some(Self { file, path, left, size })),
        }
    }
}

fn begin(out: &mut Vec<u8>, kind: EntryType, names: (&[u8], &[u8]), size: u64, status: &Stat) {
    let attributes = Attributes {
        mode: status.st_mode & PERMISSIONS,
        uid: status.st_uid,
        gid: status.st_gid,
        seconds: status.st_mtime,
        nanoseconds: status.st_mtime_nsec as u32,
    };
    format::begin(out, kind, names, size, &attributes);
}
