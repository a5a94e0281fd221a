//! The standard streams of a process: pipes, or a pseudo-terminal.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

use super::messages::Size;

/// Our end of a pipe or terminal, which never blocks.
pub struct Stream(AsyncFd<OwnedFd>);

impl Stream {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        // SAFETY: `AsyncFd` owns the descriptor, which so stays open and itself until it has been
        // taken out of the runtime's poll set again. The safe constructor is deprecated for types
        // that could hand out another descriptor each time; an `OwnedFd` cannot.
        Ok(Self(unsafe { AsyncFd::register(fd)? }))
    }

    /// 0 at the end. A terminal's end is an error of its own. Nothing is lost when cancelled.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd, &mut *buffer)?));
            match read {
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Ok(0);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Bytes that could be read at once.
    pub fn backlog(&self) -> usize {
        rustix::io::ioctl_fionread(self.0.get_ref()).map_or(0, |count| count as usize)
    }

    pub fn resize(&self, size: Size) -> io::Result<()> {
        Ok(tcsetwinsize(self.0.get_ref(), window(size))?)
    }
}

/// Both sides of the standard streams.
pub struct Stdio {
    /// The child's 0, 1 and 2.
    pub child: [OwnedFd; 3],
    pub input: Option<Arc<Stream>>,
    /// With the name each has in a `data` event.
    pub outputs: Vec<(&'static str, Arc<Stream>)>,
}

impl Stdio {
    pub fn pipes(with_input: bool) -> io::Result<Self> {
        let (stdin, input) = if with_input {
            let (ours, theirs) =
                pipe_with(PipeFlags::CLOEXEC).map(|(read, write)| (write, read))?;
            (theirs, Some(Arc::new(Stream::new(ours)?)))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let (stdout, child_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, child_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let outputs = vec![
            ("stdout", Arc::new(Stream::new(stdout)?)),
            ("stderr", Arc::new(Stream::new(stderr)?)),
        ];
        Ok(Self { child: [stdin, child_stdout, child_stderr], input, outputs })
    }

    /// The terminal belongs to `owner`, so that programs may open it by name.
    pub fn terminal(size: Size, owner: Option<u32>) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name, flags, Mode::empty())?;
        tcsetwinsize(&slave, window(size))?;
        if let Some(owner) = owner {
            fchown(&slave, Some(Uid::from_raw(owner)), None::<Gid>)?;
            fchmod(&slave, Mode::from_raw_mode(0o620))?;
        }
        let child = [slave.try_clone()?, slave.try_clone()?, slave];
        let master = Arc::new(Stream::new(master)?);
        Ok(Self { child, input: Some(Arc::clone(&master)), outputs: vec![("pty", master)] })
    }
}

fn window(size: Size) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}
