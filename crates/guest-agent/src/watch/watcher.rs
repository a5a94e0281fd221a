//! A watch, and its events up to now. Looking at files blocks, so it is done on another thread.

use std::io;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::spawn_blocking;

use super::messages::Event;
use super::queue::Queue;
use super::watched::Watch;
use crate::rpc::{Code, ConnectError};
use crate::users::Names;

/// Events that wait to be fetched, `bytes`; the one that goes beyond it is the last.
const MAX_WAITING: usize = 1 << 20;

pub struct Watcher {
    queue: Queue,
    state: Arc<Mutex<State>>,
}

pub struct State {
    watch: Watch,
    include_entry: bool,
    events: Vec<Event>,
    weight: usize,
    /// Nothing more was there when it was last looked.
    drained: bool,
    /// Held as long as there is a queue of the kernel.
    _slot: OwnedSemaphorePermit,
}

impl Watcher {
    pub fn new(watch: Watch, include_entry: bool, slot: OwnedSemaphorePermit) -> Self {
        let queue = watch.queue();
        let (events, weight, drained) = (Vec::new(), 0, false);
        let state = State { watch, include_entry, events, weight, drained, _slot: slot };
        Self { queue, state: Arc::new(Mutex::new(state)) }
    }

    /// Returns when there may be more.
    pub async fn ready(&self) -> io::Result<()> {
        self.queue.ready().await
    }

    /// All events up to now, as far as there is room for them. A caller that leaves loses none.
    pub async fn update(&self) -> Result<OwnedMutexGuard<State>, ConnectError> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let updated = spawn_blocking(move || {
            state.fill();
            state
        });
        updated.await.map_err(|error| ConnectError::new(Code::Internal, error.to_string()))
    }
}

impl State {
    fn fill(&mut self) {
        let mut names = None;
        self.drained = false;
        while self.weight < MAX_WAITING {
            let Some(change) = self.watch.next() else {
                self.drained = true;
                return;
            };
            let names = self.include_entry.then(|| &*names.get_or_insert_with(Names::load));
            let event = Event::new(&change, self.watch.root(), names);
            self.weight += event.weight();
            self.events.push(event);
        }
    }

    pub fn take(&mut self) -> Vec<Event> {
        self.weight = 0;
        std::mem::take(&mut self.events)
    }

    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether nothing comes after the events that are known.
    pub fn has_failed(&self) -> bool {
        self.watch.failure().is_some()
    }

    /// The reason why nothing comes after the events that wait.
    pub fn failure(&self) -> Option<ConnectError> {
        self.watch.failure().filter(|_| self.drained && self.events.is_empty()).cloned()
    }
}
