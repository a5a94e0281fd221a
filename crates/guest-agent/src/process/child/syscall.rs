//! System calls of a child that shares our memory.
//!
//! The C library's functions write their error to the thread's `errno`, which is ours as long as the
//! child runs on our memory, and would try to change threads that the child does not have.

use std::arch::asm;
use std::ffi::c_long;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use rustix::process::Pid;

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
    let result: isize;
    // SAFETY: the calling convention of x86-64: the call keeps all registers but rax, rcx and r11. The child
    // finds them as they are here, but for its stack pointer, and never comes back from `entry`.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r8",
            "call r9",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw mut wishes,
            in("rsi") size_of_val(&wishes),
            in("r8") argument,
            in("r9") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    let pid = check(result)?;
    Pid::from_raw(pid as i32).ok_or(libc::EINVAL)
}

/// Makes a system call, and returns its result or its error number.
///
/// # Safety
/// As the call itself asks for. It may write where `arguments` say, and nowhere else.
pub unsafe fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> Result<usize, i32> {
    const { assert!(N <= 5) };
    let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
    let result: isize;
    // SAFETY: the calling convention of x86-64, as above.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    check(result)
}

fn check(result: isize) -> Result<usize, i32> {
    if (-MAX_ERRNO..0).contains(&result) { Err(-result as i32) } else { Ok(result as usize) }
}
