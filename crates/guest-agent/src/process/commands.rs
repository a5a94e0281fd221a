//! The methods of `perch.Commands`: commands that run, and how those that have ended did. Not in E2B's
//! protocol.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;

use super::kept::Tail;
use super::messages::{
    CommandInfo, CommandList, CommandOutput, Done, KeptOutput, Nothing, SelectRequest, Selector,
};
use super::registry::{Found, Processes};
use crate::http::Request;
use crate::rpc::ConnectError;

pub async fn list_commands(
    processes: Arc<Processes>,
    _: Nothing,
) -> Result<CommandList, ConnectError> {
    let found = processes.all();
    Ok(CommandList { commands: found.iter().map(info).collect() })
}

/// With the last output of it.
pub async fn read_command(
    processes: Arc<Processes>,
    request: SelectRequest,
) -> Result<CommandOutput, ConnectError> {
    let found = processes.any(&request.process)?;
    let outputs = found.hub.read_kept(|tails| tails.iter().map(kept).collect());
    Ok(CommandOutput { command: info(&found), outputs })
}

/// Input as plain bytes, which costs neither side a second copy in base64. Returns when the process has taken
/// them all.
pub async fn write_input(
    processes: Arc<Processes>,
    request: Request,
) -> Result<Done, ConnectError> {
    let pid = request.uri().query().and_then(|query| query.strip_prefix("pid="));
    let pid = pid.and_then(|pid| pid.parse().ok()).ok_or_else(|| {
        ConnectError::invalid("the query must be pid= and the number of a process")
    })?;
    let process = processes.live(&Selector { pid: Some(pid), tag: None })?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ConnectError::invalid("the body broke off"))?;
        if let Ok(bytes) = frame.into_data() {
            process.input.write(&bytes, process.exited()).await?;
        }
    }
    Ok(Done {})
}

/// A command that has exited runs until the last of its output has come.
fn info(found: &Found) -> CommandInfo {
    let (end, ended_at) = found.hub.end().unzip();
    CommandInfo {
        pid: found.pid,
        cmd: found.brief.cmd.clone(),
        args: found.brief.args.clone(),
        started_at: milliseconds(found.brief.started_at),
        ended_at: ended_at.map(milliseconds),
        end,
    }
}

fn kept(tail: &Tail) -> (&'static str, KeptOutput) {
    let (front, back) = tail.bytes.as_slices();
    let data = STANDARD.encode([front, back].concat());
    (tail.name, KeptOutput { data, truncated: tail.truncated })
}

fn milliseconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
