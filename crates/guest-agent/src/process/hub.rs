//! Output of one process to all its subscribers.
//!
//! Queues are short and a full one is waited for: the process runs at the pace of its slowest
//! reader, in constant memory, and nobody loses a byte. With no subscriber output is dropped.
//! One that takes nothing for long is dropped when others are waiting too.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::messages::End;
use crate::rpc::{Code, ConnectError};

/// Frames of up to 44 KiB.
const QUEUE: usize = 4;
/// How long one subscriber may hold up the others.
const STALL: Duration = Duration::from_secs(30);

/// How a subscription ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ended(End),
    Failed(ConnectError),
}

#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Arc<Subscriber>>,
    next: u64,
    end: Option<End>,
}

struct Subscriber {
    id: u64,
    queue: mpsc::Sender<Bytes>,
    outcome: watch::Sender<Option<Outcome>>,
}

/// The receiving side: frames first, then the outcome.
pub struct Feed {
    pub id: u64,
    pub frames: mpsc::Receiver<Bytes>,
    pub outcome: watch::Receiver<Option<Outcome>>,
}

impl Hub {
    /// Output from now on; for a process that has ended, its end alone.
    pub fn subscribe(&self) -> Feed {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let (queue, frames) = mpsc::channel(QUEUE);
        let outcome = watch::Sender::new(state.end.clone().map(Outcome::Ended));
        let feed = Feed { id, frames, outcome: outcome.subscribe() };
        if state.end.is_none() {
            state.subscribers.push(Arc::new(Subscriber { id, queue, outcome }));
        }
        feed
    }

    pub fn unsubscribe(&self, id: u64) {
        self.state().subscribers.retain(|subscriber| subscriber.id != id);
    }

    pub fn has_subscribers(&self) -> bool {
        !self.state().subscribers.is_empty()
    }

    /// Hands the frame to everybody, and returns when the slowest has room for it.
    pub async fn publish(&self, frame: Bytes) {
        let subscribers = self.state().subscribers.clone();
        for subscriber in subscribers {
            if subscriber.queue.try_send(frame.clone()).is_ok() {
                continue;
            }
            tokio::select! {
                // An error is a subscriber that has gone.
                _ = subscriber.queue.send(frame.clone()) => {}
                () = subscriber.failed() => {}
                () = self.stalled() => self.fail(subscriber.id, stall_error()),
            }
        }
    }

    /// Ends one subscription with an error, after the frames that it was given.
    pub fn fail(&self, id: u64, error: ConnectError) {
        let mut state = self.state();
        if let Some(index) = state.subscribers.iter().position(|each| each.id == id) {
            state.subscribers.remove(index).outcome.send_replace(Some(Outcome::Failed(error)));
        }
    }

    /// Ends all subscriptions with the process's end, after the frames that they were given.
    pub fn finish(&self, end: End) {
        let mut state = self.state();
        for subscriber in state.subscribers.drain(..) {
            subscriber.outcome.send_replace(Some(Outcome::Ended(end.clone())));
        }
        state.end = Some(end);
    }

    /// Returns once the wait has been long and somebody else is held up by it.
    async fn stalled(&self) {
        loop {
            sleep(STALL).await;
            if self.state().subscribers.len() > 1 {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Subscriber {
    async fn failed(&self) {
        // The sender is `self`, so that the wait cannot fail.
        let _ = self.outcome.subscribe().wait_for(Option::is_some).await;
    }
}

fn stall_error() -> ConnectError {
    let message = format!("the stream was not read for {} s", STALL.as_secs());
    ConnectError::new(Code::ResourceExhausted, message)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::reaper::Exit;
    use super::*;

    const FRAME: Bytes = Bytes::from_static(b"frame");

    async fn fill(hub: &Hub) {
        for _ in 0..QUEUE {
            hub.publish(FRAME).await;
        }
    }

    #[tokio::test]
    async fn publishing_waits_for_a_full_queue() {
        let hub = Hub::default();
        let mut feed = hub.subscribe();
        fill(&hub).await;
        let mut publishing = Box::pin(hub.publish(FRAME));
        assert!((&mut publishing).now_or_never().is_none());
        feed.frames.recv().await.unwrap();
        publishing.await;
    }

    #[tokio::test]
    async fn without_subscribers_output_is_dropped() {
        let hub = Hub::default();
        for _ in 0..100 {
            hub.publish(FRAME).await;
        }
        assert!(!hub.has_subscribers());
    }

    #[tokio::test]
    async fn a_subscriber_that_goes_frees_the_process() {
        let hub = Hub::default();
        let feed = hub.subscribe();
        fill(&hub).await;
        let mut publishing = Box::pin(hub.publish(FRAME));
        assert!((&mut publishing).now_or_never().is_none());
        drop(feed);
        publishing.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_subscriber_is_dropped_for_the_sake_of_another() {
        let hub = Hub::default();
        let stalled = hub.subscribe();
        let mut reading = hub.subscribe();
        let drain = async { while reading.frames.recv().await.is_some() {} };
        let publish = async {
            fill(&hub).await;
            hub.publish(FRAME).await;
            hub.finish(Exit::Code(0).into());
        };
        tokio::join!(drain, publish);
        let outcome = stalled.outcome.borrow().clone();
        assert_eq!(outcome, Some(Outcome::Failed(stall_error())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_subscriber_is_waited_for() {
        let hub = Hub::default();
        let mut feed = hub.subscribe();
        fill(&hub).await;
        let read_late = async {
            sleep(STALL * 10).await;
            feed.frames.recv().await
        };
        let ((), frame) = tokio::join!(hub.publish(FRAME), read_late);
        assert_eq!(frame, Some(FRAME));
        assert!(feed.outcome.borrow().is_none());
    }

    #[tokio::test]
    async fn a_late_subscriber_gets_the_end() {
        let hub = Hub::default();
        hub.finish(Exit::Code(7).into());
        let feed = hub.subscribe();
        let outcome = feed.outcome.borrow().clone();
        assert_eq!(outcome, Some(Outcome::Ended(Exit::Code(7).into())));
    }
}
