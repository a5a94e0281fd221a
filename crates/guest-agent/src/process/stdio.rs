//! The standard streams of a process: pipes, or a pseudo-terminal.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, open};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcsetwinsize;

use super::credentials::Credentials;
use super::size::Size;
use super::stream::Stream;

/// Room of a pipe of standard output or error, `bytes`.
pub const PIPE_BYTES: usize = 256 << 10;

/// Both sides of the standard streams.
pub struct Stdio {
    /// The child's 0, 1 and 2.
    pub child: [OwnedFd; 3],
    pub input: Option<Arc<Stream>>,
    /// With the name each has in a `data` event.
    pub outputs: Vec<(&'static str, Arc<Stream>)>,
}

impl Stdio {
    /// The pipes belong to `owner`: opening `/dev/stderr` opens the pipe anew, and its mode is 0600.
    pub fn pipes(with_input: bool, owner: Option<&Credentials>) -> io::Result<Self> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = pipe()?;
            give(&theirs, owner)?;
            (theirs, Some(Arc::new(Stream::new(ours)?)))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let (stdout, child_stdout) = pipe()?;
        let (stderr, child_stderr) = pipe()?;
        give(&child_stdout, owner)?;
        give(&child_stderr, owner)?;
        let outputs = vec![
            ("stdout", Arc::new(Stream::new(stdout)?)),
            ("stderr", Arc::new(Stream::new(stderr)?)),
        ];
        Ok(Self { child: [stdin, child_stdout, child_stderr], input, outputs })
    }

    /// The terminal belongs to `owner`, so that programs may open it by name.
    pub fn terminal(size: Size, owner: Option<&Credentials>) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name, flags, Mode::empty())?;
        tcsetwinsize(&slave, size.into())?;
        if let Some(owner) = owner {
            fchown(&slave, Some(Uid::from_raw(owner.uid)), None::<Gid>)?;
            fchmod(&slave, Mode::from_raw_mode(0o620))?;
        }
        let child = [slave.try_clone()?, slave.try_clone()?, slave];
        let master = Arc::new(Stream::new(master)?);
        Ok(Self { child, input: Some(Arc::clone(&master)), outputs: vec![("pty", master)] })
    }
}

/// Its reading end and its writing end. It holds more than the usual 64 KiB: each time that it is full or empty,
/// whoever waits at its other end has to be woken.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // Only root may go beyond the bounds of a user, and a smaller one does.
    let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
    Ok((read, write))
}

/// Both ends of a pipe are one inode.
fn give(end: &OwnedFd, owner: Option<&Credentials>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    Ok(fchown(end, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
}
