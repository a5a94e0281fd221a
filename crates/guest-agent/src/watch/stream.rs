//! The stream of `WatchDir`: start, events, keepalives. It ends by its client, its time-out, or a failure.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::time::{Instant, sleep_until};

use super::messages::Message;
use super::watcher::Watcher;
use crate::rpc::{Call, ConnectError, end_of_stream, message};

struct Told {
    watcher: Watcher,
    keepalive: Duration,
    deadline: Option<Instant>,
    phase: Phase,
}

#[derive(PartialEq, Eq)]
enum Phase {
    Start,
    /// There may be events.
    Events,
    /// There were none.
    Silence,
    Over,
}

pub fn told(watcher: Watcher, call: &Call) -> impl Stream<Item = Bytes> + Send + use<> {
    let deadline = call.timeout.map(|limit| Instant::now() + limit);
    let told = Told { watcher, keepalive: call.keepalive, deadline, phase: Phase::Start };
    stream::unfold(told, |mut told| async move { Some((told.next().await?, told)) })
}

impl Told {
    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::Over => None,
            Phase::Start => {
                self.phase = Phase::Events;
                Some(message(&Message::Start {}))
            }
            Phase::Events | Phase::Silence => Some(match self.frames().await {
                Ok(frames) => frames,
                Err(error) => {
                    self.phase = Phase::Over;
                    end_of_stream(Some(&error))
                }
            }),
        }
    }

    async fn frames(&mut self) -> Result<Bytes, ConnectError> {
        let silence = Instant::now() + self.keepalive;
        loop {
            if self.phase == Phase::Silence {
                tokio::select! {
                    ready = self.watcher.ready() => {
                        ready.map_err(|error| ConnectError::from_io("inotify", &error))?;
                    }
                    () = sleep_until(silence) => return Ok(message(&Message::Keepalive {})),
                    () = passed(self.deadline) => return Err(ConnectError::deadline_exceeded()),
                }
            }
            let mut state = self.watcher.update().await?;
            self.phase = if state.is_drained() { Phase::Silence } else { Phase::Events };
            let events = state.take();
            if let Some(failure) = state.failure().filter(|_| events.is_empty()) {
                return Err(failure);
            }
            if state.has_failed() {
                self.phase = Phase::Events;
            }
            if !events.is_empty() {
                let frames = events.iter().map(|event| message(&Message::Filesystem(event)));
                return Ok(frames.fold(BytesMut::new(), join).freeze());
            }
        }
    }
}

fn join(mut all: BytesMut, frame: Bytes) -> BytesMut {
    all.extend_from_slice(&frame);
    all
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
