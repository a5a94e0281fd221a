//! Grows the root file system to its device, so that a template of one size makes sandboxes of
//! any larger one.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `_IOW('f', 16, __u64)`, from fs/ext4/ext4.h.
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;
const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK: usize = 1024;
const MAGIC: u16 = 0xef53;
/// `EXT4_FEATURE_INCOMPAT_64BIT`
const INCOMPAT_64BIT: u32 = 0x80;

/// The number of blocks to grow to; `None` when the device has room for none.
///
/// Read before mounting: a handful of bytes, so that the usual case costs nothing.
pub fn needed(device: &Path) -> io::Result<Option<u64>> {
    let mut device = File::open(device)?;
    let size = device.seek(SeekFrom::End(0))?;
    let mut superblock = [0; SUPERBLOCK];
    device.read_exact_at(&mut superblock, SUPERBLOCK_AT)?;
    let (blocks, block_size) = parse(&superblock)?;
    Ok(larger(blocks, block_size, size))
}

/// Grows the file system mounted at `target`.
pub fn to(target: &Path, blocks: u64) -> io::Result<()> {
    let root = File::open(target)?;
    // SAFETY: no wrapper exists for this ioctl. The kernel reads one u64 from a live local.
    let result =
        unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const blocks) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Number and size of the blocks (kernel documentation, filesystems/ext4/super.rst).
fn parse(superblock: &[u8; SUPERBLOCK]) -> io::Result<(u64, u64)> {
    let long = |at: usize| {
        u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ])
    };
    let magic = u16::from_le_bytes([superblock[0x38], superblock[0x39]]);
    let log_size = long(0x18);
    if magic != MAGIC || log_size > 6 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an ext4 file system"));
    }
    let high = if long(0x60) & INCOMPAT_64BIT != 0 { long(0x150) } else { 0 };
    Ok((u64::from(high) << 32 | u64::from(long(0x04)), 1024 << log_size))
}

fn larger(blocks: u64, block_size: u64, device_size: u64) -> Option<u64> {
    let fitting = device_size / block_size;
    (fitting > blocks).then_some(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(blocks: u64, log_size: u32, wide: bool) -> [u8; SUPERBLOCK] {
        let mut superblock = [0; SUPERBLOCK];
        superblock[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        superblock[0x04..0x08].copy_from_slice(&(blocks as u32).to_le_bytes());
        superblock[0x18..0x1c].copy_from_slice(&log_size.to_le_bytes());
        superblock[0x150..0x154].copy_from_slice(&((blocks >> 32) as u32).to_le_bytes());
        superblock[0x60] = if wide { INCOMPAT_64BIT as u8 } else { 0 };
        superblock
    }

    #[test]
    fn reads_number_and_size_of_blocks() {
        assert_eq!(parse(&superblock(1000, 2, false)).unwrap(), (1000, 4096));
        assert_eq!(parse(&superblock(5 << 32 | 7, 0, true)).unwrap(), (5 << 32 | 7, 1024));
        assert_eq!(parse(&superblock(5 << 32 | 7, 0, false)).unwrap(), (7, 1024));
        assert!(parse(&[0; SUPERBLOCK]).is_err());
    }

    #[test]
    fn grows_only_by_whole_blocks_and_never_shrinks() {
        assert_eq!(larger(1000, 4096, 1000 * 4096 + 4095), None);
        assert_eq!(larger(1000, 4096, 999 * 4096), None);
        assert_eq!(larger(1000, 4096, 1001 * 4096), Some(1001));
    }
}
