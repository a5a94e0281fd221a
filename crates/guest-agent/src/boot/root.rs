//! The file systems of the running guest, beside its root disk.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::step;

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
    for path in ["/tmp", "/run/lock"] {
        step(path, open_directory(Path::new(path)));
    }
}

fn mount_at(target: &str, kind: &str, flags: MountFlags, options: &std::ffi::CStr) {
    let mounted =
        fs::create_dir_all(target).and_then(|()| Ok(mount(kind, target, kind, flags, options)?));
    step(target, mounted);
}

/// A directory that everybody may write to, as /tmp is.
fn open_directory(path: &Path) -> io::Result<()> {
    if !path.exists() {
        fs::create_dir_all(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o1777))?;
    }
    Ok(())
}
