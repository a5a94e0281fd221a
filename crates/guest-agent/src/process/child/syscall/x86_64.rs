//! The calling convention of x86-64: the kernel keeps all registers but rax, rcx and r11.

use std::arch::asm;
use std::ffi::c_long;

/// # Safety
/// As for `super::clone`.
pub unsafe fn clone<T>(
    wishes: &libc::clone_args,
    entry: unsafe extern "C" fn(*const T) -> !,
    argument: *const T,
) -> isize {
    let result;
    // SAFETY: the child finds the registers as they are here, but for its stack pointer, and never comes back from
    // `entry`.
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
            in("rdi") &raw const *wishes,
            in("rsi") size_of_val(wishes),
            in("r8") argument,
            in("r9") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// # Safety
/// As for `super::call`.
pub unsafe fn call(number: c_long, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: the convention.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
