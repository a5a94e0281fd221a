//! The kernel's random number generator. Guests restored from one snapshot share its state, and
//! so would return the same "random" bytes until it is reseeded.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// `_IOW('R', 0x03, int[2])`, from linux/random.h.
const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
/// `_IO('R', 0x07)`.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

pub const MIN_BYTES: usize = 32;
pub const MAX_BYTES: usize = 512;

/// `struct rand_pool_info` with room for the most that is accepted.
#[repr(C)]
struct PoolInfo {
    /// `bits`
    entropy_count: libc::c_int,
    /// `bytes`
    buf_size: libc::c_int,
    buf: [u8; MAX_BYTES],
}

/// Mixes `seed` in, credits it, and makes the generator use it at once.
pub fn add(seed: &[u8]) -> io::Result<()> {
    if seed.len() > MAX_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut info = PoolInfo {
        entropy_count: seed.len() as libc::c_int * 8,
        buf_size: seed.len() as libc::c_int,
        buf: [0; MAX_BYTES],
    };
    info.buf[..seed.len()].copy_from_slice(seed);
    let device = File::open("/dev/urandom")?;
    // SAFETY: no wrapper exists for this ioctl. The kernel reads the two integers and then
    // `buf_size` bytes, which lie within `info`; it keeps no pointer.
    check(unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY as _, &raw const info) })?;
    // SAFETY: no wrapper exists for this ioctl either; it takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG as _) })
}

/// Takes what the hypervisor's generator gives without waiting; without one, does nothing.
pub fn seed_from_hardware() -> io::Result<()> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/hwrng");
    let mut seed = [0; 64];
    match opened.and_then(|mut device| device.read(&mut seed)) {
        Ok(count) if count >= MIN_BYTES => add(&seed[..count]),
        _ => Ok(()),
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
