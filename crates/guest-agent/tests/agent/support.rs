//! A running agent, and a client of it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};

pub const TOKEN: &str = "test-token";
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Agent {
    child: Child,
    pub address: String,
    pub client: Client,
    pub folder: tempfile::TempDir,
}

impl Agent {
    /// An agent that was told who it is.
    pub async fn start() -> Self {
        let agent = Self::uninitialized();
        let response = agent.post("/init").json(&init(1)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        agent
    }

    pub fn uninitialized() -> Self {
        Self::spawn(program().args(["serve", "--listen", "127.0.0.1:0"]))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap().to_owned();
        let folder = tempfile::Builder::new().prefix("perch-test-").tempdir().unwrap();
        Self { child, address, client: Client::new(), folder }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).header("X-Access-Token", TOKEN)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path)).header("X-Access-Token", TOKEN)
    }

    /// A call with one message each way.
    pub async fn call(&self, method: &str, message: Value) -> Result<Value, Value> {
        answer(self.post(&format!("/{method}")).json(&message)).await
    }

    /// A streaming call about processes.
    pub fn stream(&self, method: &str, message: Value) -> RequestBuilder {
        self.stream_of(&format!("process.Process/{method}"), message)
    }

    pub fn stream_of(&self, method: &str, message: Value) -> RequestBuilder {
        let text = message.to_string();
        let mut body = vec![0];
        body.extend_from_slice(&(text.len() as u32).to_be_bytes());
        body.extend_from_slice(text.as_bytes());
        self.post(&format!("/{method}"))
            .header("Content-Type", "application/connect+json")
            .body(body)
    }

    /// Starts a shell script.
    pub fn sh(&self, script: &str) -> RequestBuilder {
        self.stream("Start", shell(script))
    }

    /// Runs a shell script to its end.
    pub async fn run(&self, script: &str) -> Output {
        Events::open(self.sh(script)).await.collect().await
    }

    /// Peak of resident memory, `KiB`.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    /// Commands outlive the agent as they outlive their clients, so they are ended with it.
    fn drop(&mut self) {
        for child in children(self.child.id()) {
            let group = rustix::process::Pid::from_raw(child as i32).unwrap();
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn children(parent: u32) -> Vec<u32> {
    let stat = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |stat: String| {
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| stat(pid).and_then(parent_of) == Some(parent))
        .collect()
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_perch-guest"))
}

/// The body of an `/init`.
pub fn init(generation: u64) -> Value {
    json!({
        "generation": generation,
        "timestamp": "2026-03-01T12:00:00.123456789Z",
        "entropy": STANDARD.encode([7; 64]),
        "sandboxId": "i123",
        "templateId": "base",
        "hostname": "sandbox",
        "machineId": "0123456789abcdef0123456789abcdef",
        "accessToken": TOKEN,
        "envVars": { "FROM_SANDBOX": "yes" },
    })
}

pub fn shell(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] }, "stdin": false })
}

pub async fn answer(request: RequestBuilder) -> Result<Value, Value> {
    let response = request.send().await.unwrap();
    let status = response.status();
    let mut body: Value = response.json().await.unwrap();
    if status.is_success() {
        return Ok(body);
    }
    body["status"] = status.as_u16().into();
    Err(body)
}

/// The frames of a stream.
pub struct Events {
    response: Response,
    buffer: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub enum Frame {
    Event(Value),
    /// The frame that closes the stream.
    Close(Value),
}

/// All that a stream said.
#[derive(Debug, Default)]
pub struct Output {
    pub pid: u64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub end: Value,
    pub error: Value,
}

impl Output {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

impl Events {
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, buffer: Vec::new() }
    }

    /// `None` when the connection ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                let close = head[0] == 2;
                if self.buffer.len() >= 5 + length {
                    let rest = self.buffer.split_off(5 + length);
                    let frame = std::mem::replace(&mut self.buffer, rest);
                    let mut value: Value = serde_json::from_slice(&frame[5..]).unwrap();
                    return Some(match close {
                        true => Frame::Close(value),
                        // Those about processes are in an envelope of their own.
                        false if value["event"].is_object() => Frame::Event(value["event"].take()),
                        false => Frame::Event(value),
                    });
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next event, which the stream must have.
    pub async fn event(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.next()).await.expect("no event in time") {
            Some(Frame::Event(event)) => event,
            other => panic!("no event but {other:?}"),
        }
    }

    /// The first event of every stream.
    pub async fn pid(&mut self) -> u64 {
        self.event().await["start"]["pid"].as_u64().expect("the first event is the start")
    }

    /// Reads until `text` has been put out.
    pub async fn until(&mut self, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let event = self.event().await;
            for (_, encoded) in event["data"].as_object().into_iter().flatten() {
                let bytes = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }

    /// Reads to the end.
    pub async fn collect(mut self) -> Output {
        let mut output = Output::default();
        loop {
            match self.next().await.expect("the stream was cut") {
                Frame::Close(mut close) => {
                    output.error = close["error"].take();
                    return output;
                }
                Frame::Event(mut event) => {
                    if let Some(pid) = event["start"]["pid"].as_u64() {
                        output.pid = pid;
                    }
                    for (name, encoded) in event["data"].as_object().into_iter().flatten() {
                        let bytes = STANDARD.decode(encoded.as_str().unwrap()).unwrap();
                        match name.as_str() {
                            "stderr" => output.stderr.extend(bytes),
                            _ => output.stdout.extend(bytes),
                        }
                    }
                    if !event["end"].is_null() {
                        output.end = event["end"].take();
                    }
                }
            }
        }
    }
}

/// Waits until `condition` holds, which must be soon.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A zombie is not alive.
pub fn alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !stat.is_empty() && !state.starts_with('Z')
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The pid that a script has written to a file, once it is there whole.
pub async fn pid_in(path: &Path) -> u64 {
    let read = || std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'));
    eventually("a pid in the file", || read().is_some()).await;
    read().unwrap().trim().parse().unwrap()
}
