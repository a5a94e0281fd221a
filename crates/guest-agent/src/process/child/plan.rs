//! The program of a child, and the memory that it has until then.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use super::super::credentials::Credentials;

/// The child's program and user.
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
    /// Whether standard input is a terminal, to become the controlling one.
    pub terminal: bool,
    /// Whether to give it the file limit of a login in place of process 1's.
    pub limit_files: bool,
}

/// The beginning of the child.
pub struct Descriptors {
    /// Its 0, 1 and 2.
    pub stdio: [OwnedFd; 3],
    /// Directory of the control group that it begins in.
    pub cgroup: Option<OwnedFd>,
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

/// Bytes of the child's stack. It calls a few functions with small frames.
const STACK: usize = 16 << 10;

/// The child's memory until it executes its program.
#[repr(C, align(16))]
pub struct Workspace {
    pub stack: MaybeUninit<[u8; STACK]>,
    pub plan: Plan,
    /// Of `plan`'s strings, each with a closing null.
    pub arguments: Vec<*const c_char>,
    pub environment: Vec<*const c_char>,
    pub stdio: [i32; 3],
    /// Written to only when a step fails.
    pub report: i32,
}
