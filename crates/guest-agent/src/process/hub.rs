//! Output of one process to all its subscribers.
//!
//! Queues are short and a full one is waited for: the process runs at the pace of its slowest
//! reader, in constant memory, and nobody loses a byte. Without a subscriber nobody is waited for.
//! A reader that takes nothing for long is dropped when others are waiting too. The last output is kept
//! all the same.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::kept::{Kept, Ledger, Tail};
use super::messages::End;
use super::output::Output;
use crate::rpc::{Code, ConnectError};

/// Pieces of up to 256 KiB.
const QUEUE: usize = 4;
/// Longest piece of kept output in a frame, `bytes`.
const REPLAY_PIECE: usize = 32 << 10;
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
    kept: Kept,
    end: Option<End>,
    ended_at: Option<SystemTime>,
    /// Somebody was told of the end when it came.
    followed: bool,
}

struct Subscriber {
    id: u64,
    queue: mpsc::Sender<Output>,
    outcome: watch::Sender<Option<Outcome>>,
}

/// The receiving side: frames first, those of the replay before the others, then the outcome.
pub struct Feed {
    pub id: u64,
    /// The kept output, when it was asked for.
    pub replay: VecDeque<Output>,
    /// Streams of which the replay is only the end.
    pub truncated: Vec<&'static str>,
    pub frames: mpsc::Receiver<Output>,
    pub outcome: watch::Receiver<Option<Outcome>>,
}

impl Hub {
    pub fn new(ledger: Ledger) -> Self {
        Self { state: Mutex::new(State { kept: Kept::new(ledger), ..State::default() }) }
    }

    /// Output from now on, after what is kept if that is asked for; then the end, which for a process
    /// that has ended comes at once.
    pub fn subscribe(&self, replay: bool) -> Feed {
        let mut state = self.state();
        let tails = if replay { state.kept.tails() } else { &[] };
        let truncated = tails.iter().filter(|tail| tail.truncated).map(|tail| tail.name).collect();
        let replay = tails.iter().flat_map(pieces).collect();
        let id = state.next;
        state.next += 1;
        let (queue, frames) = mpsc::channel(QUEUE);
        let outcome = watch::Sender::new(state.end.clone().map(Outcome::Ended));
        let feed = Feed { id, replay, truncated, frames, outcome: outcome.subscribe() };
        if state.end.is_none() {
            state.subscribers.push(Arc::new(Subscriber { id, queue, outcome }));
        }
        feed
    }

    pub fn unsubscribe(&self, id: u64) {
        self.state().subscribers.retain(|subscriber| subscriber.id != id);
    }

    /// Keeps the output, hands it to everybody, and returns when the slowest has room for it.
    pub async fn publish(&self, frame: Output) {
        let subscribers = {
            let mut state = self.state();
            state.kept.push(frame.name(), frame.bytes());
            state.subscribers.clone()
        };
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
        state.followed = !state.subscribers.is_empty();
        for subscriber in state.subscribers.drain(..) {
            subscriber.outcome.send_replace(Some(Outcome::Ended(end.clone())));
        }
        state.end = Some(end);
        state.ended_at = Some(SystemTime::now());
        state.kept.shrink();
    }

    /// How and when the process ended, once all of its output has come.
    pub fn end(&self) -> Option<(End, SystemTime)> {
        let state = self.state();
        state.end.clone().zip(state.ended_at)
    }

    /// Somebody was told of the end when it came.
    pub fn was_followed(&self) -> bool {
        self.state().followed
    }

    pub fn read_kept<T>(&self, read: impl FnOnce(&[Tail]) -> T) -> T {
        read(self.state().kept.tails())
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

fn pieces(tail: &Tail) -> impl Iterator<Item = Output> + use<'_> {
    let (front, back) = tail.bytes.as_slices();
    let pieces = front.chunks(REPLAY_PIECE).chain(back.chunks(REPLAY_PIECE));
    pieces.map(|piece| Output::new(tail.name, piece))
}

fn stall_error() -> ConnectError {
    let message = format!("the stream was not read for {} s", STALL.as_secs());
    ConnectError::new(Code::ResourceExhausted, message)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::exit::Exit;
    use super::*;

    async fn publish(hub: &Hub) {
        hub.publish(frame()).await;
    }

    fn frame() -> Output {
        Output::new("stdout", b"output")
    }

    async fn fill(hub: &Hub) {
        for _ in 0..QUEUE {
            publish(hub).await;
        }
    }

    #[tokio::test]
    async fn publishing_waits_for_a_full_queue() {
        let hub = Hub::default();
        let mut feed = hub.subscribe(false);
        fill(&hub).await;
        let mut publishing = Box::pin(publish(&hub));
        assert!((&mut publishing).now_or_never().is_none());
        feed.frames.recv().await.unwrap();
        publishing.await;
    }

    #[tokio::test]
    async fn without_subscribers_nobody_is_waited_for() {
        let hub = Hub::default();
        for _ in 0..100 {
            publish(&hub).now_or_never().unwrap();
        }
        hub.finish(Exit::Code(0).into());
        assert!(!hub.was_followed());
    }

    #[tokio::test]
    async fn a_replay_and_what_follows_are_the_output_without_a_gap() {
        let hub = Hub::default();
        publish(&hub).await;
        let mut feed = hub.subscribe(true);
        publish(&hub).await;
        assert_eq!((feed.replay.pop_front(), feed.replay.pop_front()), (Some(frame()), None));
        assert_eq!(feed.frames.try_recv(), Ok(frame()));
        assert!(feed.truncated.is_empty());
    }

    #[tokio::test]
    async fn a_subscriber_that_goes_frees_the_process() {
        let hub = Hub::default();
        let feed = hub.subscribe(false);
        fill(&hub).await;
        let mut publishing = Box::pin(publish(&hub));
        assert!((&mut publishing).now_or_never().is_none());
        drop(feed);
        publishing.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_subscriber_is_dropped_for_the_sake_of_another() {
        let hub = Hub::default();
        let stalled = hub.subscribe(false);
        let mut reading = hub.subscribe(false);
        let drain = async { while reading.frames.recv().await.is_some() {} };
        let publish = async {
            fill(&hub).await;
            publish(&hub).await;
            hub.finish(Exit::Code(0).into());
        };
        tokio::join!(drain, publish);
        let outcome = stalled.outcome.borrow().clone();
        assert_eq!(outcome, Some(Outcome::Failed(stall_error())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_subscriber_is_waited_for() {
        let hub = Hub::default();
        let mut feed = hub.subscribe(false);
        fill(&hub).await;
        let read_late = async {
            sleep(STALL * 10).await;
            feed.frames.recv().await
        };
        let ((), read) = tokio::join!(publish(&hub), read_late);
        assert_eq!(read, Some(frame()));
        assert!(feed.outcome.borrow().is_none());
    }

    #[tokio::test]
    async fn a_late_subscriber_gets_the_end() {
        let hub = Hub::default();
        hub.finish(Exit::Code(7).into());
        let feed = hub.subscribe(false);
        let outcome = feed.outcome.borrow().clone();
        assert_eq!(outcome, Some(Outcome::Ended(Exit::Code(7).into())));
    }
}
