//! JSON of `process.Process`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exit::Exit;
use super::size::Size;

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ProcessConfig {
    pub cmd: String,
    pub args: Vec<String>,
    pub envs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
}

#[derive(Deserialize)]
pub struct StartRequest {
    pub process: ProcessConfig,
    pub pty: Option<Pty>,
    pub tag: Option<String>,
    /// Absent means yes.
    pub stdin: Option<bool>,
}

#[derive(Deserialize)]
pub struct Pty {
    pub size: Option<Size>,
}

/// By pid or by tag.
#[derive(Deserialize)]
pub struct Selector {
    pub pid: Option<u32>,
    pub tag: Option<String>,
}

#[derive(Deserialize)]
pub struct SelectRequest {
    pub process: Selector,
    /// Of `Connect`: the kept output comes first. Not in E2B's protocol.
    #[serde(default)]
    pub replay: bool,
}

#[derive(Deserialize)]
pub struct InputRequest {
    pub process: Selector,
    pub input: Input,
}

/// Base64, of one of the two.
#[derive(Deserialize)]
pub struct Input {
    pub stdin: Option<String>,
    pub pty: Option<String>,
}

/// Of `StreamInput`: `start` is the first, and neither is a keepalive.
#[derive(Deserialize)]
pub struct InputMessage {
    pub start: Option<InputStart>,
    pub data: Option<InputData>,
}

#[derive(Deserialize)]
pub struct InputStart {
    pub process: Selector,
}

#[derive(Deserialize)]
pub struct InputData {
    pub input: Input,
}

#[derive(Deserialize)]
pub struct SignalRequest {
    pub process: Selector,
    pub signal: SignalName,
}

/// Enums are names or numbers in protobuf's JSON.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum SignalName {
    Name(String),
    Number(i32),
}

#[derive(Deserialize)]
pub struct UpdateRequest {
    pub process: Selector,
    pub pty: Option<Pty>,
}

#[derive(Deserialize)]
pub struct Nothing {}

#[derive(Serialize)]
pub struct Done {}

#[derive(Serialize)]
pub struct ListAnswer {
    pub processes: Vec<Listed>,
}

#[derive(Serialize)]
pub struct Listed {
    pub config: ProcessConfig,
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// The answer of `perch.Commands` about a process. Not in E2B's protocol.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandInfo {
    pub pid: u32,
    pub cmd: String,
    pub args: Vec<String>,
    /// Milliseconds since 1970.
    pub started_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

#[derive(Serialize)]
pub struct CommandList {
    pub commands: Vec<CommandInfo>,
}

#[derive(Serialize)]
pub struct CommandOutput {
    pub command: CommandInfo,
    pub outputs: BTreeMap<&'static str, KeptOutput>,
}

#[derive(Serialize)]
pub struct KeptOutput {
    /// Base64.
    pub data: String,
    pub truncated: bool,
}

/// The events of a stream, but output.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Event {
    Start(Start),
    End(End),
    Keepalive {},
}

#[derive(Serialize)]
pub struct Start {
    pub pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<Replay>,
}

/// To a client that asked for the kept output. Not in E2B's protocol.
#[derive(Serialize)]
pub struct Replay {
    /// Its input is open.
    pub stdin: bool,
    /// Streams of which only the end is kept.
    pub truncated: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// -1 when a signal ended the process.
    exit_code: i32,
    /// Whether it ended by itself.
    exited: bool,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Number of the signal that ended it. Not in E2B's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    /// `out_of_memory`: the kernel ended it, or something that it started. Not in E2B's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl End {
    pub fn for_want_of_memory(self) -> Self {
        Self { reason: Some("out_of_memory"), ..self }
    }
}

impl From<Exit> for End {
    fn from(exit: Exit) -> Self {
        let (exit_code, signal, status) = match exit {
            Exit::Code(code) => (code, None, format!("exit status {code}")),
            Exit::Signal(signal) => (-1, Some(signal), format!("signal: {}", describe(signal))),
        };
        let error = (exit != Exit::Code(0)).then(|| status.clone());
        Self { exit_code, exited: signal.is_none(), status, error, signal, reason: None }
    }
}

/// The texts that E2B's agent gives.
fn describe(signal: i32) -> String {
    let text = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGUSR1 => "user defined signal 1",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGUSR2 => "user defined signal 2",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        _ => return format!("signal {signal}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(exit: Exit) -> String {
        serde_json::to_string(&Event::End(exit.into())).unwrap()
    }

    #[test]
    fn an_end_says_code_or_signal() {
        assert_eq!(
            json(Exit::Code(0)),
            r#"{"end":{"exitCode":0,"exited":true,"status":"exit status 0"}}"#
        );
        assert_eq!(
            json(Exit::Code(3)),
            r#"{"end":{"exitCode":3,"exited":true,"status":"exit status 3","error":"exit status 3"}}"#
        );
        assert_eq!(
            json(Exit::Signal(9)),
            r#"{"end":{"exitCode":-1,"exited":false,"status":"signal: killed","error":"signal: killed","signal":9}}"#
        );
    }
}
