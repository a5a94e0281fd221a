//! Fork and exec.
//!
//! The standard library's spawn waits for a child whose exec failed and blocks until exec is
//! done; both are wrong here, where one reaper waits and one thread serves. So this is the bare
//! sequence: everything is allocated before the fork, the child makes only system calls, and an
//! error travels back through a pipe that a successful exec closes.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

/// Who the child becomes.
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Everything that the child needs.
pub struct Plan {
    /// Files to try, in order; the first that can be executed is.
    pub candidates: Vec<CString>,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    pub cwd: CString,
    /// Whether `/` will do when `cwd` is not there.
    pub cwd_is_default: bool,
    /// None: stay who we are.
    pub credentials: Option<Credentials>,
    pub stdio: [OwnedFd; 3],
    /// Whether standard input is a terminal, to become the controlling one.
    pub terminal: bool,
    /// Directory of the control group that the child begins in.
    pub cgroup: Option<OwnedFd>,
    /// Whether to give it the file limit of a login in place of process 1's.
    pub limit_files: bool,
}

/// The step at which a child gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    Setup = 1,
    Credentials = 2,
    Cwd = 3,
    Exec = 4,
}

/// Bytes of a failure on the report pipe: stage, then errno.
pub const REPORT: usize = 5;

/// Reads a failure off the report pipe; `None` when exec closed it without one.
pub fn failure(report: &[u8]) -> Option<(Stage, io::Error)> {
    let (stage, errno) = report.split_first()?;
    let errno = i32::from_ne_bytes(errno.try_into().ok()?);
    let stage = match stage {
        2 => Stage::Credentials,
        3 => Stage::Cwd,
        4 => Stage::Exec,
        _ => Stage::Setup,
    };
    Some((stage, io::Error::from_raw_os_error(errno)))
}

/// Forks a child that executes the plan. `report` is written to only when that fails.
pub fn fork(plan: &Plan, report: BorrowedFd<'_>) -> io::Result<Pid> {
    let arguments = pointers(&plan.arguments);
    let environment = pointers(&plan.environment);
    let mut all = empty_set();
    let mut before = empty_set();
    // SAFETY: both sets are live locals; no wrapper exists for masking every signal. A handler
    // must not run in the child, which shares the runtime's wake-up pipe.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    // SAFETY: no wrapper exists for either. Other threads may hold locks at this moment, so the
    // child only makes system calls on memory that is prepared above, and never returns.
    let pid = unsafe { clone(plan.cgroup.as_ref().map(AsRawFd::as_raw_fd)) };
    if pid == 0 {
        // SAFETY: this is the child of the fork just above.
        unsafe { run(plan, &arguments, &environment, report.as_raw_fd()) }
    }
    let error = io::Error::last_os_error();
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    Pid::from_raw(pid.max(0)).ok_or(error)
}

/// Of linux/sched.h.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// As fork(2), but the child handles no signal as we do, and is in the group from its first instruction on. To
/// move a process that runs already, the kernel would have to stop everything that forks or ends.
///
/// # Safety
/// As for fork(2): the child may only make system calls. The C library does not know of it.
unsafe fn clone(cgroup: Option<RawFd>) -> libc::pid_t {
    // SAFETY: `clone_args` is plain data, of which all zero means no wish.
    let mut wishes: libc::clone_args = unsafe { std::mem::zeroed() };
    wishes.flags = CLONE_CLEAR_SIGHAND;
    wishes.exit_signal = libc::SIGCHLD as u64;
    if let Some(group) = cgroup {
        wishes.flags |= CLONE_INTO_CGROUP;
        wishes.cgroup = group as u64;
    }
    // SAFETY: no memory is shared with the child, and the size is that of the argument.
    unsafe { libc::syscall(libc::SYS_clone3, &raw mut wishes, size_of_val(&wishes)) as libc::pid_t }
}

/// The arguments' addresses with a closing null. They point into `strings`.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: a signal set is plain data, and all zero is the empty one on Linux.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// Only in a freshly forked child.
unsafe fn run(
    plan: &Plan,
    arguments: &[*const c_char],
    environment: &[*const c_char],
    report: RawFd,
) -> ! {
    // SAFETY: the caller promises a forked child; the steps make only system calls.
    let (stage, errno) = match unsafe { prepare(plan) } {
        Err(failure) => failure,
        // SAFETY: both lists end in null and their strings live as long as `plan`.
        Ok(()) => (Stage::Exec, unsafe { exec(&plan.candidates, arguments, environment) }),
    };
    let mut message = [0; REPORT];
    message[0] = stage as u8;
    message[1..].copy_from_slice(&errno.to_ne_bytes());
    // SAFETY: writes a local to an open descriptor and leaves without running exit handlers,
    // which belong to the parent.
    unsafe {
        libc::write(report, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

type Step = Result<(), (Stage, i32)>;

/// # Safety
/// Only in a freshly forked child.
unsafe fn prepare(plan: &Plan) -> Step {
    // SAFETY: every call takes descriptors and addresses that the plan keeps alive, is a plain
    // system call (or async-signal-safe), and changes only this process.
    unsafe {
        check(Stage::Setup, libc::setsid().into())?;
        reset_signals();
        for (target, source) in (0..).zip(&plan.stdio) {
            check(Stage::Setup, libc::dup2(source.as_raw_fd(), target).into())?;
        }
        if plan.terminal {
            check(Stage::Setup, libc::ioctl(0, libc::TIOCSCTTY, 0).into())?;
        }
        if plan.limit_files {
            limit_files();
        }
        if let Some(user) = &plan.credentials {
            become_user(user)?;
        }
        let moved = libc::chdir(plan.cwd.as_ptr());
        if moved < 0 && plan.cwd_is_default {
            check(Stage::Cwd, libc::chdir(c"/".as_ptr()).into())?;
        } else {
            check(Stage::Cwd, moved.into())?;
        }
        libc::umask(0o022);
        // Every descriptor is opened close-on-exec; this makes sure of it.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    Ok(())
}

/// What a clone keeps: all signals were blocked for it, the runtime ignores SIGPIPE, and whoever started us with
/// the C library's help may have ignored that library's own two, which its functions refuse.
///
/// # Safety
/// Only in a freshly forked child.
unsafe fn reset_signals() {
    // The kernel's `struct sigaction`: handler, flags, restorer, mask. All zero is the default.
    let action = [0u64; 4];
    let none = 0u64;
    let earlier = ptr::null_mut::<u64>();
    let size = size_of::<u64>();
    // SAFETY: both locals have the kernel's layout and the size of the mask is given.
    unsafe {
        for signal in [libc::SIGPIPE, 32, 33] {
            libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), earlier, size);
        }
        let how = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const none, earlier, size);
    }
}

/// The system calls themselves: the C library's functions of these names would try to change
/// threads that the child does not have.
///
/// # Safety
/// Only in a freshly forked child.
unsafe fn become_user(user: &Credentials) -> Step {
    let (uid, gid) = (user.uid, user.gid);
    // SAFETY: the list of groups is alive and its length is its own.
    unsafe {
        let set = libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr());
        check(Stage::Credentials, set)?;
        check(Stage::Credentials, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(Stage::Credentials, libc::syscall(libc::SYS_setresuid, uid, uid, uid))
    }
}

/// # Safety
/// Only in a freshly forked child.
unsafe fn limit_files() {
    let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 1_048_576 };
    // SAFETY: a live local. It may not keep the command from running.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
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
    let mut result = libc::ENOENT;
    for candidate in candidates {
        let file: &CStr = candidate;
        // SAFETY: as the caller promises.
        unsafe {
            if libc::access(file.as_ptr(), libc::F_OK) == 0 {
                libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            }
        }
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => result = libc::EACCES,
            other => return other,
        }
    }
    result
}

fn check(stage: Stage, result: i64) -> Step {
    if result < 0 { Err((stage, errno())) } else { Ok(()) }
}

fn errno() -> i32 {
    // SAFETY: the address is this thread's and always valid.
    unsafe { *libc::__errno_location() }
}
