//! Starting a program.
//!
//! The standard library's spawn waits for a child whose exec failed and blocks until exec is
//! done; both are wrong here, where one reaper waits and one thread serves. So this is the bare
//! sequence. Until it executes its program the child runs on our memory, as posix_spawn's does: a
//! copy of that is most of what a fork costs. But we go on meanwhile, since it may wait for a disk
//! or for a file system that another program serves. So all that it needs is prepared before, stays
//! until it is done with it, and nothing of ours is written by it; an error travels back through a
//! pipe that a successful exec closes.

mod plan;
mod run;
mod syscall;

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use self::plan::{REPORT, Workspace};
use super::stream::Stream;

pub use self::plan::{Descriptors, Plan, Stage};

/// Reads a failure off the report pipe; `None` when exec closed it without one.
fn failure(report: &[u8]) -> Option<(Stage, io::Error)> {
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

/// A child that has not said yet whether its program runs.
pub struct Child {
    pub pid: Pid,
    report: Stream,
    /// A box, which is leaked unless the child is known to be done with it.
    workspace: *mut Workspace,
}

// SAFETY: the workspace is nobody else's but the child's, and dropped once.
unsafe impl Send for Child {}

/// Starts a child that executes the plan. Our copies of its descriptors are closed.
pub fn start(plan: Plan, descriptors: Descriptors) -> io::Result<Child> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    // Above the standard streams, which the child replaces.
    debug_assert!(theirs.as_raw_fd() > 2);
    let report = Stream::new(ours)?;
    let workspace = Box::into_raw(Box::new(Workspace {
        stack: MaybeUninit::uninit(),
        arguments: pointers(&plan.arguments),
        environment: pointers(&plan.environment),
        plan,
        stdio: descriptors.stdio.each_ref().map(AsRawFd::as_raw_fd),
        report: theirs.as_raw_fd(),
    }));
    let mut all = empty_set();
    let mut before = empty_set();
    // SAFETY: both sets are live locals; no wrapper exists for masking every signal. A handler
    // must not run in the child, which has our memory.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
    }
    let cgroup = descriptors.cgroup.as_ref().map(AsRawFd::as_raw_fd);
    // SAFETY: the child gets all it uses in the workspace, which is kept until it is done with it.
    let pid = unsafe { syscall::clone(&raw mut (*workspace).stack, cgroup, run::run, workspace) };
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    match pid {
        Ok(pid) => Ok(Child { pid, report, workspace }),
        Err(errno) => {
            // SAFETY: it was made by a box above, and no child has it.
            drop(unsafe { Box::from_raw(workspace) });
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

impl Child {
    /// Waits until exec has worked (`None`), or the child has given up.
    pub async fn outcome(self) -> io::Result<Option<(Stage, io::Error)>> {
        // With room for one byte more: a read of no bytes would not wait for the end.
        let mut report = Vec::with_capacity(REPORT + 1);
        while report.len() <= REPORT && self.report.read(&mut report).await? > 0 {}
        // SAFETY: it was made by a box. The pipe's other end is closed by exec, after it has left
        // our memory, or by the child's end.
        drop(unsafe { Box::from_raw(self.workspace) });
        Ok(failure(&report))
    }
}

/// The strings' addresses with a closing null.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: a signal set is plain data, and all zero is the empty one on Linux.
    unsafe { std::mem::zeroed() }
}
