//! How a process ended.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// By SIGKILL, or as a shell whose last command was.
    pub fn is_kill(self) -> bool {
        self == Self::Signal(libc::SIGKILL) || self == Self::Code(128 + libc::SIGKILL)
    }
}
