//! The steps of a child until it executes its program.

use std::ffi::{CString, c_char, c_long};

use super::super::credentials::Credentials;
use super::plan::{Plan, REPORT, Stage, Workspace};
use super::syscall::call;

/// # Safety
/// Only in a child that `syscall::clone` made, on a workspace that stays.
pub unsafe extern "C" fn run(workspace: *const Workspace) -> ! {
    // SAFETY: the caller promises the workspace, of which all but the stack is only read; the message is a local.
    // Exit handlers belong to the parent.
    unsafe {
        let (plan, report) = (&(*workspace).plan, (*workspace).report);
        let (arguments, environment) = (&(*workspace).arguments, &(*workspace).environment);
        let (stage, errno) = match prepare(plan, &(*workspace).stdio) {
            Err(failure) => failure,
            Ok(()) => (Stage::Exec, exec(&plan.candidates, arguments, environment)),
        };
        let mut message = [0; REPORT];
        message[0] = stage as u8;
        message[1..].copy_from_slice(&errno.to_ne_bytes());
        let _ = call(libc::SYS_write, [report as usize, message.as_ptr() as usize, message.len()]);
        loop {
            let _ = call(libc::SYS_exit_group, [127]);
        }
    }
}

type Failure = (Stage, i32);

/// # Safety
/// Only in a child that `syscall::clone` made.
unsafe fn prepare(plan: &Plan, stdio: &[i32; 3]) -> Result<(), Failure> {
    // SAFETY: every call takes descriptors and addresses that the workspace keeps, and changes only this process.
    unsafe {
        step(Stage::Setup, libc::SYS_setsid, [])?;
        reset_signals();
        for (target, source) in stdio.iter().enumerate() {
            step(Stage::Setup, libc::SYS_dup3, [*source as usize, target, 0])?;
        }
        if plan.terminal {
            step(Stage::Setup, libc::SYS_ioctl, [0, libc::TIOCSCTTY as usize, 0])?;
        }
        if plan.limit_files {
            limit_files();
        }
        if let Some(user) = &plan.credentials {
            become_user(user)?;
        }
        let moved = step(Stage::Cwd, libc::SYS_chdir, [plan.cwd.as_ptr() as usize]);
        if moved.is_err() && plan.cwd_is_default {
            step(Stage::Cwd, libc::SYS_chdir, [c"/".as_ptr() as usize])?;
        } else {
            moved?;
        }
        let _ = call(libc::SYS_umask, [0o022]);
        // Every descriptor is opened close-on-exec; this makes sure of it.
        let mark = libc::CLOSE_RANGE_CLOEXEC as usize;
        let _ = call(libc::SYS_close_range, [3, libc::c_uint::MAX as usize, mark]);
    }
    Ok(())
}

/// The signals of a clone: all were blocked for it, the runtime ignores SIGPIPE, and whoever started us with
/// the C library's help may have ignored that library's own two, which its functions refuse.
///
/// # Safety
/// Only in a child that `syscall::clone` made.
unsafe fn reset_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer, mask. All zero is the default.
    let action = [0u64; 4];
    let none = 0u64;
    // SAFETY: both locals have the kernel's layout and the size of the mask is given.
    unsafe {
        for signal in [libc::SIGPIPE as usize, 32, 33] {
            let what = [signal, action.as_ptr() as usize, 0, size_of::<u64>()];
            let _ = call(libc::SYS_rt_sigaction, what);
        }
        let how = [libc::SIG_SETMASK as usize, &raw const none as usize, 0, size_of::<u64>()];
        let _ = call(libc::SYS_rt_sigprocmask, how);
    }
}

/// # Safety
/// Only in a child that `syscall::clone` made.
unsafe fn become_user(user: &Credentials) -> Result<(), Failure> {
    let (uid, gid) = (user.uid as usize, user.gid as usize);
    // SAFETY: the list of groups is alive and its length is its own.
    unsafe {
        let groups = [user.groups.len(), user.groups.as_ptr() as usize];
        step(Stage::Credentials, libc::SYS_setgroups, groups)?;
        step(Stage::Credentials, libc::SYS_setresgid, [gid; 3])?;
        step(Stage::Credentials, libc::SYS_setresuid, [uid; 3])
    }
}

/// # Safety
/// Only in a child that `syscall::clone` made.
unsafe fn limit_files() {
    let limit = libc::rlimit64 { rlim_cur: 65_536, rlim_max: 1_048_576 };
    let what = [0, libc::RLIMIT_NOFILE as usize, &raw const limit as usize, 0];
    // SAFETY: a live local. It may not keep the command from running.
    let _ = unsafe { call(libc::SYS_prlimit64, what) };
}

/// Tries the candidates as execvp(3) does, and returns the errno of the failure. To look first costs less than
/// an exec that fails, for which the kernel makes a memory map and copies the arguments.
///
/// # Safety
/// Both lists end in null and point to live strings.
unsafe fn exec(
    candidates: &[CString],
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> i32 {
    let (arguments, environment) = (arguments.as_ptr() as usize, environment.as_ptr() as usize);
    let mut result = libc::ENOENT;
    for candidate in candidates {
        let file = candidate.as_ptr() as usize;
        // SAFETY: as the caller promises.
        let tried = unsafe {
            call(libc::SYS_faccessat, [libc::AT_FDCWD as usize, file, libc::F_OK as usize])
                .and_then(|_| call(libc::SYS_execve, [file, arguments, environment]))
        };
        match tried {
            Ok(_) | Err(libc::ENOENT | libc::ENOTDIR) => {}
            Err(libc::EACCES) => result = libc::EACCES,
            Err(other) => return other,
        }
    }
    result
}

/// # Safety
/// As for `call`.
unsafe fn step<const N: usize>(
    stage: Stage,
    number: c_long,
    arguments: [usize; N],
) -> Result<(), Failure> {
    // SAFETY: as the caller promises.
    unsafe { call(number, arguments) }.map(|_| ()).map_err(|errno| (stage, errno))
}
