//! The root disk.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

use super::grow;
use super::report::{report, step};

const DEVICE: &str = "/dev/vda";
/// A virtual disk is there in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);

/// Mounts the disk at `target`, as large as its device.
pub fn mount_root(target: &Path) -> io::Result<()> {
    wait()?;
    let growth = grow::needed(Path::new(DEVICE));
    // No access times: each would be a page of its own in the copy-on-write layer.
    let flags = MountFlags::NOATIME;
    // A disk that has just grown would have its tables of inodes written full of zeros meanwhile; and a
    // thread would read all its maps of blocks, which are read as they are needed.
    let options = c"errors=remount-ro,noinit_itable,no_prefetch_block_bitmaps";
    mount(DEVICE, target, "ext4", flags, options)?;
    match growth {
        Ok(None) => {}
        Ok(Some(blocks)) => step("grow the root disk", grow::to(target, blocks)),
        Err(error) => report("size of the root disk", error),
    }
    Ok(())
}

fn wait() -> io::Result<()> {
    let start = Instant::now();
    while !Path::new(DEVICE).exists() {
        if start.elapsed() > PATIENCE {
            let message = format!("{DEVICE} did not appear within {} s", PATIENCE.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
