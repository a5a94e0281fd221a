//! From a request to a live process, and from its exit to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::child::{self, Descriptors, Plan, Stage};
use super::command::Command;
use super::credentials::Credentials;
use super::exit::Exit;
use super::hub::Hub;
use super::input::Input;
use super::live::Process;
use super::messages::{End, StartRequest};
use super::pump;
use super::registry::Processes;
use super::size::Size;
use super::stdio::Stdio;
use super::subscription::Subscription;
use crate::identity::Identity;
use crate::rpc::{Call, Code, ConnectError};
use crate::users::User;

/// Starts a process and subscribes its client. It is live when this returns.
pub async fn start(
    processes: Arc<Processes>,
    identity: Arc<Identity>,
    call: Call,
    request: StartRequest,
) -> Result<Subscription, ConnectError> {
    processes.check_room()?;
    let user = identity.user(call.user.as_deref())?;
    let terminal = request.pty.is_some();
    let command = Command::new(&request.process, &user, &identity, terminal)?;
    let credentials = credentials(&user)?;
    let stdio = match &request.pty {
        Some(pty) => Stdio::terminal(pty.size.unwrap_or_else(Size::default), credentials.as_ref()),
        None => Stdio::pipes(request.stdin.unwrap_or(true), credentials.as_ref()),
    };
    let stdio = stdio.map_err(|error| ConnectError::from_io("stdio", &error))?;
    let group = processes.new_group();
    let name = request.process.cmd.clone();
    let cwd = command.cwd.to_string_lossy().into_owned();
    let directory = group.as_ref().map(|group| group.directory()).transpose();
    let plan = Plan {
        candidates: command.candidates,
        arguments: command.arguments,
        environment: command.environment,
        cwd: command.cwd,
        cwd_is_default: command.cwd_is_default,
        credentials,
        terminal,
        limit_files: processes.own_machine(),
    };
    let descriptors = Descriptors {
        stdio: stdio.child,
        cgroup: directory.map_err(|error| ConnectError::from_io("control group", &error))?,
    };
    let (child, exit) = processes
        .reaper()
        .start(|| child::start(plan, descriptors))
        .map_err(|error| ConnectError::from_io("start", &error))?;
    let pid = child.pid;
    let outcome = child.outcome().await.map_err(|error| ConnectError::from_io("pipe", &error))?;
    if let Some((stage, error)) = outcome {
        return Err(refusal(stage, &error, &name, &cwd, &user.name));
    }
    let tty = stdio.input.clone().filter(|_| terminal);
    let input = Input::new(stdio.input, terminal);
    let hub = Arc::new(Hub::new(processes.ledger()));
    let process = Process::new(pid, request.process, request.tag, input, tty, group, hub);
    let process = processes.add(process);
    let mut subscription =
        Subscription::new(process.pid(), Arc::clone(process.hub()), call.keepalive)
            .with_raw_output(call.raw_output);
    let watch = Watch {
        subscriber: subscription.id(),
        outputs: stdio
            .outputs
            .into_iter()
            .map(|(name, stream)| pump::start(name, stream, Arc::clone(&process)))
            .collect(),
        process: Arc::clone(&process),
        exit,
        limit: call.timeout,
    };
    if let Some(until) = call.kill_on_disconnect {
        let generation = identity.generation();
        subscription = subscription.with_leash(process, generation, until);
    }
    tokio::spawn(async move { watch.run(&processes).await });
    Ok(subscription)
}

/// Follows one live process to its end.
struct Watch {
    process: Arc<Process>,
    exit: oneshot::Receiver<Exit>,
    outputs: Vec<oneshot::Receiver<()>>,
    limit: Option<Duration>,
    /// The client that set the limit.
    subscriber: u64,
}

impl Watch {
    async fn run(mut self, processes: &Processes) {
        let exit = match self.limit {
            None => (&mut self.exit).await,
            Some(limit) => match timeout(limit, &mut self.exit).await {
                Ok(exit) => exit,
                Err(_) => {
                    self.process.kill();
                    self.process.hub().fail(self.subscriber, ConnectError::deadline_exceeded());
                    (&mut self.exit).await
                }
            },
        };
        let exit = exit.unwrap_or(Exit::Code(-1));
        // Before its control group can be given to another.
        let starved = exit.is_kill() && self.process.ran_out_of_memory();
        self.process.set_exited();
        processes.exited(&self.process);
        for output in self.outputs {
            // An error is a pump that has gone, and settled so.
            let _ = output.await;
        }
        let end = End::from(exit);
        self.process.hub().finish(if starved { end.for_want_of_memory() } else { end });
    }
}

/// `None` when the process runs as who we are. Only root may choose.
fn credentials(user: &User) -> Result<Option<Credentials>, ConnectError> {
    let own = rustix::process::geteuid();
    if own.is_root() {
        return Ok(Some(Credentials { uid: user.uid, gid: user.gid, groups: user.groups.clone() }));
    }
    if own.as_raw() == user.uid {
        return Ok(None);
    }
    let message = format!("only root can run commands as '{}'", user.name);
    Err(ConnectError::new(Code::PermissionDenied, message))
}

/// The answer to a start that failed in the child.
fn refusal(
    stage: Stage,
    error: &std::io::Error,
    name: &str,
    cwd: &str,
    user: &str,
) -> ConnectError {
    let errno = error.raw_os_error().unwrap_or(0);
    match (stage, errno) {
        (Stage::Cwd, libc::ENOENT | libc::ENOTDIR) => {
            ConnectError::invalid(format!("cwd '{cwd}' does not exist"))
        }
        (Stage::Cwd, _) => ConnectError::from_io(format!("cwd '{cwd}'"), error),
        (Stage::Credentials, _) => ConnectError::from_io(format!("user '{user}'"), error),
        (Stage::Setup, _) => ConnectError::from_io("start", error),
        (Stage::Exec, libc::ENOENT) => {
            ConnectError::new(Code::NotFound, format!("command not found: {name}"))
        }
        // There, but not to be executed: a shell says 126 to all of these.
        (Stage::Exec, libc::EACCES | libc::EPERM | libc::ENOEXEC | libc::EISDIR) => {
            ConnectError::new(Code::PermissionDenied, format!("cannot execute {name}: {error}"))
        }
        (Stage::Exec, libc::E2BIG) => ConnectError::invalid("argument list too long"),
        (Stage::Exec, _) => ConnectError::from_io(name, error),
    }
}
