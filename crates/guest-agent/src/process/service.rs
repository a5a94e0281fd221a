//! The methods of `process.Process`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use rustix::process::Signal;

use super::input::ended;
use super::live::Process;
use super::messages::{
    Done, Input, InputData, InputMessage, InputRequest, ListAnswer, Listed, Nothing, SelectRequest,
    SignalName, SignalRequest, StartRequest, UpdateRequest,
};
use super::registry::Processes;
use super::subscription::Subscription;
use super::supervisor;
use crate::identity::Identity;
use crate::rpc::{Call, Code, ConnectError, Messages};

pub async fn start(
    processes: Arc<Processes>,
    identity: Arc<Identity>,
    call: Call,
    request: StartRequest,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, ConnectError> {
    // In a task of its own: a client that leaves half-way must not leave half a process.
    let started = tokio::spawn(supervisor::start(processes, identity, call, request)).await;
    let subscription =
        started.map_err(|error| ConnectError::new(Code::Internal, format!("start: {error}")))??;
    Ok(subscription.into_stream())
}

pub async fn connect(
    processes: Arc<Processes>,
    call: Call,
    request: SelectRequest,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, ConnectError> {
    let found = processes.any(&request.process)?;
    let subscription = match request.replay {
        true => Subscription::replayed(found, call.keepalive),
        false => Subscription::new(found.pid, found.hub, call.keepalive),
    };
    Ok(subscription.with_raw_output(call.raw_output).with_deadline(call.timeout).into_stream())
}

pub async fn list(processes: Arc<Processes>, _: Nothing) -> Result<ListAnswer, ConnectError> {
    let live = processes.all_live();
    let describe = |process: &Arc<Process>| Listed {
        config: process.config.clone(),
        pid: process.pid(),
        tag: process.tag.clone(),
    };
    Ok(ListAnswer { processes: live.iter().map(describe).collect() })
}

pub async fn send_input(
    processes: Arc<Processes>,
    request: InputRequest,
) -> Result<Done, ConnectError> {
    let process = processes.live(&request.process)?;
    write(&process, request.input).await?;
    Ok(Done {})
}

/// The process gets each message when it comes. Its end is an error once there is more for it.
pub async fn stream_input(
    processes: Arc<Processes>,
    mut messages: Messages,
) -> Result<Done, ConnectError> {
    let Some(InputMessage { start: Some(start), data: None }) = messages.next().await? else {
        return Err(ConnectError::invalid("the first message must be start"));
    };
    let process = processes.live(&start.process)?;
    while let Some(message) = messages.next::<InputMessage>().await? {
        if message.start.is_some() {
            return Err(ConnectError::invalid("start came twice"));
        }
        let Some(InputData { input }) = message.data else { continue };
        let written = write(&process, input).await;
        written.map_err(|error| if process.has_exited() { ended() } else { error })?;
    }
    Ok(Done {})
}

async fn write(process: &Process, input: Input) -> Result<(), ConnectError> {
    let (encoded, to_terminal) = match (input.stdin, input.pty) {
        (Some(text), None) => (text, false),
        (None, Some(text)) => (text, true),
        _ => return Err(ConnectError::invalid("input must be either stdin or pty")),
    };
    if to_terminal != process.input.is_terminal() {
        let message = "input is of the other kind: stdin for pipes, pty for a terminal";
        return Err(ConnectError::new(Code::FailedPrecondition, message));
    }
    let bytes =
        STANDARD.decode(encoded).map_err(|_| ConnectError::invalid("input is not base64"))?;
    process.input.write(&bytes, process.exited()).await
}

pub async fn close_stdin(
    processes: Arc<Processes>,
    request: SelectRequest,
) -> Result<Done, ConnectError> {
    processes.live(&request.process)?.input.close().await?;
    Ok(Done {})
}

pub async fn send_signal(
    processes: Arc<Processes>,
    request: SignalRequest,
) -> Result<Done, ConnectError> {
    let signal = named(&request.signal)
        .ok_or_else(|| ConnectError::invalid("signal is none that can be sent"))?;
    processes.live(&request.process)?.signal(signal)?;
    Ok(Done {})
}

pub async fn update(
    processes: Arc<Processes>,
    request: UpdateRequest,
) -> Result<Done, ConnectError> {
    let process = processes.live(&request.process)?;
    if let Some(size) = request.pty.and_then(|pty| pty.size) {
        let Some(terminal) = &process.terminal else {
            let message = "the process has no terminal";
            return Err(ConnectError::new(Code::FailedPrecondition, message));
        };
        terminal.resize(size).map_err(|error| ConnectError::from_io("resize", &error))?;
    }
    Ok(Done {})
}

/// E2B names two signals; the others are there for clients of our own.
fn named(signal: &SignalName) -> Option<Signal> {
    let number = match signal {
        SignalName::Number(number) => return Signal::from_named_raw(*number),
        SignalName::Name(name) => name.strip_prefix("SIGNAL_").unwrap_or(name),
    };
    Some(match number {
        "SIGHUP" => Signal::HUP,
        "SIGINT" => Signal::INT,
        "SIGQUIT" => Signal::QUIT,
        "SIGKILL" => Signal::KILL,
        "SIGTERM" => Signal::TERM,
        "SIGUSR1" => Signal::USR1,
        "SIGUSR2" => Signal::USR2,
        "SIGSTOP" => Signal::STOP,
        "SIGCONT" => Signal::CONT,
        "SIGTSTP" => Signal::TSTP,
        "SIGWINCH" => Signal::WINCH,
        _ => return None,
    })
}
