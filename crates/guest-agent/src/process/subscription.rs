//! A client's stream: start, output, keepalives, end.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::hub::{Feed, Hub, Outcome};
use super::live::Process;
use super::messages::{Event, Replay, Start};
use super::output::Form;
use super::registry::Found;
use crate::rpc::{ConnectError, LeashEnd, end_of_stream, event};

pub struct Subscription {
    pid: u32,
    hub: Arc<Hub>,
    feed: Feed,
    /// The part of the first event about the kept output.
    replay: Option<Replay>,
    phase: Phase,
    form: Form,
    keepalive: Duration,
    /// Ends this stream, not the process (`Connect` with a time-out).
    deadline: Option<Instant>,
    leash: Option<Leash>,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Start,
    Output,
    Over,
}

/// Kills the process when its client leaves before the end, or, if it asked for that, before it is told
/// the pid. A client that a change of generation cut off has not left.
struct Leash {
    process: Arc<Process>,
    generation: watch::Receiver<u64>,
    until: LeashEnd,
}

impl Subscription {
    pub fn new(pid: u32, hub: Arc<Hub>, keepalive: Duration) -> Self {
        let feed = hub.subscribe(false);
        Self::of(pid, hub, feed, None, keepalive)
    }

    /// Its kept output comes first.
    pub fn replayed(found: Found, keepalive: Duration) -> Self {
        let mut feed = found.hub.subscribe(true);
        let truncated = std::mem::take(&mut feed.truncated);
        let replay = Replay { stdin: found.stdin, truncated };
        Self::of(found.pid, found.hub, feed, Some(replay), keepalive)
    }

    fn of(
        pid: u32,
        hub: Arc<Hub>,
        feed: Feed,
        replay: Option<Replay>,
        keepalive: Duration,
    ) -> Self {
        let phase = Phase::Start;
        let form = Form::Json;
        Self { pid, hub, feed, replay, phase, form, keepalive, deadline: None, leash: None }
    }

    pub fn with_raw_output(mut self, raw: bool) -> Self {
        self.form = if raw { Form::Raw } else { Form::Json };
        self
    }

    pub fn with_deadline(mut self, limit: Option<Duration>) -> Self {
        self.deadline = limit.map(|limit| Instant::now() + limit);
        self
    }

    pub fn with_leash(
        mut self,
        process: Arc<Process>,
        generation: watch::Receiver<u64>,
        until: LeashEnd,
    ) -> Self {
        self.leash = Some(Leash { process, generation, until });
        self
    }

    pub fn id(&self) -> u64 {
        self.feed.id
    }

    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut this| async move { Some((this.next().await?, this)) })
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Over => None,
            Phase::Start => {
                self.phase = Phase::Output;
                self.leash.take_if(|leash| leash.until == LeashEnd::Start);
                Some(event(&Event::Start(Start { pid: self.pid, replay: self.replay.take() })))
            }
            Phase::Output => Some(self.output().await),
        }
    }

    async fn output(&mut self) -> Bytes {
        if let Some(frame) = self.feed.replay.pop_front() {
            return frame.into_frame(self.form);
        }
        let silence = Instant::now() + self.keepalive;
        loop {
            // Looked at before the queue: all frames are queued before the outcome is known.
            let outcome = self.feed.outcome.borrow_and_update().clone();
            match (self.feed.frames.try_recv(), outcome) {
                (Ok(frame), _) => return frame.into_frame(self.form),
                (Err(_), Some(outcome)) => return self.close(outcome),
                (Err(mpsc::error::TryRecvError::Disconnected), None) => {
                    return self.close(Outcome::Failed(ConnectError::deadline_exceeded()));
                }
                (Err(mpsc::error::TryRecvError::Empty), None) => {}
            }
            tokio::select! {
                Some(frame) = self.feed.frames.recv() => return frame.into_frame(self.form),
                _ = self.feed.outcome.changed() => {}
                () = sleep_until(silence) => return event(&Event::Keepalive {}),
                () = passed(self.deadline) => {
                    return self.close(Outcome::Failed(ConnectError::deadline_exceeded()));
                }
            }
        }
    }

    fn close(&mut self, outcome: Outcome) -> Bytes {
        self.phase = Phase::Over;
        match outcome {
            Outcome::Failed(error) => end_of_stream(Some(&error)),
            Outcome::Ended(end) => {
                let mut last = BytesMut::from(event(&Event::End(end)));
                last.extend_from_slice(&end_of_stream(None));
                last.freeze()
            }
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unsubscribe(self.feed.id);
        if self.phase == Phase::Over {
            return;
        }
        if let Some(leash) = &self.leash {
            if !leash.generation.has_changed().unwrap_or(true) {
                leash.process.kill();
            }
        }
    }
}
