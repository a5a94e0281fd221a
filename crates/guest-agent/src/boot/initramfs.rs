//! From the initramfs to the root disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount, mount_move};

use super::disk;
use super::modules::{self, OnDemand};
use super::report::step;

const NEW_ROOT: &str = "/newroot";
/// Holds the modules for later.
const KEPT: &str = "/lib";

/// Mounts what is needed to find the disk, and makes the disk the root.
pub fn enter_root() -> io::Result<()> {
    let none = MountFlags::empty();
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        let mounted = fs::create_dir_all(target)
            .and_then(|()| Ok(mount(kind, target, kind, none, None)?))
            .or_else(|error| match error.raw_os_error() {
                // The kernel may have mounted devtmpfs itself.
                Some(libc::EBUSY) => Ok(()),
                _ => Err(error),
            });
        step(target, mounted);
    }
    step("console", open_console());
    modules::load_all(Path::new("/modules"));
    fs::create_dir_all(NEW_ROOT)?;
    disk::mount_root(Path::new(NEW_ROOT))?;
    for name in ["dev", "proc", "sys"] {
        let target = Path::new(NEW_ROOT).join(name);
        let moved =
            fs::create_dir_all(&target).and_then(|()| Ok(mount_move(format!("/{name}"), &target)?));
        step(name, moved);
    }
    let on_demand = OnDemand::take();
    empty_initramfs();
    switch()?;
    step("modules", on_demand.and_then(|modules| modules.map_or(Ok(()), OnDemand::place)));
    Ok(())
}

/// The kernel gives process 1 no standard streams when the initramfs has no /dev/console.
fn open_console() -> io::Result<()> {
    let console = open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    rustix::stdio::dup2_stdin(&console)?;
    rustix::stdio::dup2_stdout(&console)?;
    rustix::stdio::dup2_stderr(&console)?;
    Ok(())
}

/// The initramfs is memory. This program's own file stays until it ends, by being executed.
fn empty_initramfs() {
    let Ok(device) = fs::metadata("/").map(|root| root.dev()) else { return };
    let Ok(entries) = fs::read_dir("/") else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(status) = path.symlink_metadata() else { continue };
        // The root disk, and whatever else is mounted, is not ours to empty.
        if status.dev() != device || path == Path::new(KEPT) {
            continue;
        }
        // A file that cannot be removed only costs its memory.
        let _ = if status.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}

/// Moves the disk's mount over `/`. An initramfs cannot be unmounted, nor pivoted away from.
fn switch() -> io::Result<()> {
    std::env::set_current_dir(NEW_ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}
