//! The calling convention of AArch64: the kernel keeps all registers but x0.

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
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x2",
            "blr x3",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *wishes as isize => result,
            in("x1") size_of_val(wishes),
            in("x2") argument,
            in("x3") entry,
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
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            options(nostack),
        );
    }
    result
}
