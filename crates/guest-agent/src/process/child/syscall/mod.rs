//! System calls of a child that shares our memory.
//!
//! The C library's functions write their error to the thread's `errno`, which is ours as long as the
//! child runs on our memory, and would try to change threads that the child does not have.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::ffi::c_long;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::process::Pid;

#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(target_arch = "x86_64")]
use x86_64 as machine;

/// Of linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The largest error number that the kernel returns, `MAX_ERRNO` of linux/err.h.
const MAX_ERRNO: isize = 4095;

/// Makes a child that runs `entry` on `stack`, on our memory and with copies of all else. It handles no signal
/// as we do, and is in the group from its first instruction on: to move a process that runs already, the
/// kernel would have to stop everything that forks or ends.
///
/// Returns the child's pid, or the error number.
///
/// # Safety
/// All signals are blocked. `stack` and what `argument` leads to stay until the child has executed another
/// program or ended. `entry` makes only calls of this module, and writes nothing but its stack.
pub unsafe fn clone<S, T>(
    stack: *mut MaybeUninit<S>,
    cgroup: Option<RawFd>,
    entry: unsafe extern "C" fn(*const T) -> !,
    argument: *const T,
) -> Result<Pid, i32> {
    // SAFETY: `clone_args` is plain data, of which all zero means no wish.
    let mut wishes: libc::clone_args = unsafe { std::mem::zeroed() };
    wishes.flags = libc::CLONE_VM as u64 | CLONE_CLEAR_SIGHAND;
    wishes.exit_signal = libc::SIGCHLD as u64;
    wishes.stack = stack as u64;
    wishes.stack_size = size_of::<S>() as u64;
    if let Some(group) = cgroup {
        wishes.flags |= CLONE_INTO_CGROUP;
        wishes.cgroup = group as u64;
    }
    // SAFETY: as the caller promises.
    let pid = check(unsafe { machine::clone(&wishes, entry, argument) })?;
    Pid::from_raw(pid as i32).ok_or(libc::EINVAL)
}

/// Makes a system call, and returns its result or its error number.
///
/// # Safety
/// As the call itself asks for. It may write where `arguments` say, and nowhere else.
pub unsafe fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> Result<usize, i32> {
    const { assert!(N <= 5) };
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: as the caller promises.
    check(unsafe { machine::call(number, [0, 1, 2, 3, 4].map(argument)) })
}

fn check(result: isize) -> Result<usize, i32> {
    if (-MAX_ERRNO..0).contains(&result) { Err(-result as i32) } else { Ok(result as usize) }
}
