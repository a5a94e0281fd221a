//! The program under test.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            fs::FileExt,
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    process::{Child, Command, ExitStatus, Stdio},
};

use perch_pager::metrics::{BYTES, Metric};
use tempfile::TempDir;

use super::chain::TestChain;

#[derive(Default)]
pub struct Settings<'a> {
    pub window_kib: Option<u32>,
    /// Bytes of zeros behind each memfile.
    pub hole: u64,
    pub record: Option<&'a File>,
    pub prefetch: Option<(&'a File, u32)>,
}

pub struct Pager {
    dir: TempDir,
    child: Child,
    metrics: File,
}

impl Pager {
    pub fn start(chain: &TestChain) -> Self {
        Self::with(chain, &Settings::default())
    }

    pub fn with(chain: &TestChain, settings: &Settings<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (header, memfiles) = chain.files(&dir, settings.hole);
        let named: Vec<String> = memfiles
            .iter()
            .map(|(id, file)| {
                format!(r#""{:032x}":{}"#, u128::from_be_bytes(*id), file.as_raw_fd())
            })
            .collect();
        let socket = UnixListener::bind(dir.path().join("pager.sock")).unwrap();
        let metrics = tempfile::tempfile().unwrap();
        metrics.set_len(BYTES as u64).unwrap();
        let mut config = format!(
            r#"{{"header":{},"memfiles":{{{}}},"socket":{},"metrics":{}"#,
            header.as_raw_fd(),
            named.join(","),
            socket.as_raw_fd(),
            metrics.as_raw_fd(),
        );
        let mut descriptors = vec![header.as_raw_fd(), socket.as_raw_fd(), metrics.as_raw_fd()];
        descriptors.extend(memfiles.iter().map(|(_, file)| file.as_raw_fd()));
        if let Some(kib) = settings.window_kib {
            config += &format!(r#","window_kib":{kib}"#);
        }
        if let Some(file) = settings.record {
            config += &format!(r#","record":{}"#, file.as_raw_fd());
            descriptors.push(file.as_raw_fd());
        }
        if let Some((file, limit)) = settings.prefetch {
            config +=
                &format!(r#","prefetch":{{"from":{},"limit_mib":{limit}}}"#, file.as_raw_fd());
            descriptors.push(file.as_raw_fd());
        }
        let child = spawn(&(config + "}"), descriptors);
        Self { dir, child, metrics }
    }

    pub fn connect(&self) -> UnixStream {
        UnixStream::connect(self.dir.path().join("pager.sock")).unwrap()
    }

    pub fn socket_path(&self) -> std::path::PathBuf {
        self.dir.path().join("pager.sock")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As it is now: a client goes on before the pager counts what it did for it.
    pub fn metric(&self, metric: Metric) -> u64 {
        word(&self.metrics, metric as usize)
    }

    /// Returns once the metric has the value, or the program has ended.
    pub fn reaches(&mut self, metric: Metric, value: u64) {
        while self.metric(metric) < value {
            assert!(self.child.try_wait().unwrap().is_none(), "the pager has ended");
            std::thread::yield_now();
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    /// Waits for the end of the program.
    pub fn end(mut self) -> Ended {
        let Refused { status, stderr } = ended(&mut self.child);
        Ended { status, stderr, metrics: self.metrics.try_clone().unwrap() }
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
    metrics: File,
}

impl Ended {
    pub fn metric(&self, metric: Metric) -> u64 {
        self.word(metric as usize)
    }

    pub fn word(&self, index: usize) -> u64 {
        word(&self.metrics, index)
    }
}

fn word(metrics: &File, index: usize) -> u64 {
    let mut word = [0; 8];
    metrics.read_exact_at(&mut word, 8 * index as u64).unwrap();
    u64::from_le_bytes(word)
}

/// A program that has ended, perhaps before it had metrics.
#[derive(Debug)]
pub struct Refused {
    pub status: ExitStatus,
    pub stderr: String,
}

pub fn ended(child: &mut Child) -> Refused {
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Refused { status: child.wait().unwrap(), stderr }
}

/// The program with a configuration and these descriptors, under the numbers that they have here.
pub fn spawn(config: &str, descriptors: Vec<RawFd>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perch-pager"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: fcntl is safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            for descriptor in &descriptors {
                libc::fcntl(*descriptor, libc::F_SETFD, 0);
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    child
}
