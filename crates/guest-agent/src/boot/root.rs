//! The file systems of the running guest, beside its root disk.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::report::step;

/// Devices of modules that are loaded when somebody opens them, with the modes that udev gives
/// them: minor number of the kernel's list of miscellaneous devices.
const ON_DEMAND: [(&str, u32, u32); 3] =
    [("/dev/fuse", 229, 0o666), ("/dev/net/tun", 200, 0o666), ("/dev/loop-control", 237, 0o660)];
const MISCELLANEOUS: u32 = 10;

/// Mounts them and makes the few files that programs expect there.
pub fn prepare() {
    let secure = MountFlags::NOSUID | MountFlags::NODEV;
    let quiet = secure | MountFlags::NOEXEC;
    let terminals = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_at("/dev/pts", "devpts", terminals, c"gid=5,mode=620,ptmxmode=666");
    mount_at("/dev/shm", "tmpfs", secure, c"mode=1777");
    mount_at("/run", "tmpfs", secure, c"mode=0755");
    mount_at("/sys/fs/cgroup", "cgroup2", quiet, c"");
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        if Path::new(link).symlink_metadata().is_err() {
            step(link, symlink(target, link));
        }
    }
    for (path, minor, mode) in ON_DEMAND {
        step(path, make_device(Path::new(path), minor, mode));
    }
    for path in ["/tmp", "/run/lock"] {
        step(path, open_directory(Path::new(path)));
    }
}

fn mount_at(target: &str, kind: &str, flags: MountFlags, options: &std::ffi::CStr) {
    let mounted =
        fs::create_dir_all(target).and_then(|()| Ok(mount(kind, target, kind, flags, options)?));
    step(target, mounted);
}

fn make_device(path: &Path, minor: u32, mode: u32) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    match mknodat(
        CWD,
        path,
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(MISCELLANEOUS, minor),
    ) {
        // The kernel has it built in.
        Ok(()) | Err(Errno::EXIST) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) => Err(error.into()),
    }
}

/// A directory that everybody may write to, as /tmp is.
fn open_directory(path: &Path) -> io::Result<()> {
    if !path.exists() {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o1777))?;
    }
    Ok(())
}
