//! Watchers that clients poll. They live on between polls; their events are fetched from the kernel meanwhile.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::budget::Budget;
use super::messages::Event;
use super::watched::exhausted;
use super::watcher::Watcher;
use crate::rpc::{Code, ConnectError};

/// Of both kinds. Each takes one of the 128 inotify instances that a user has.
const MAX_WATCHERS: usize = 64;
/// How long nobody has polled one that gives way to another when there is no room.
const FORGOTTEN: Duration = Duration::from_secs(3600);

pub struct Watchers {
    slots: Arc<Semaphore>,
    directories: Arc<AtomicUsize>,
    polled: Mutex<Polled>,
}

#[derive(Default)]
struct Polled {
    next: u64,
    all: HashMap<String, Arc<Entry>>,
}

struct Entry {
    watcher: Arc<Watcher>,
    room: Arc<Notify>,
    fetching: AbortHandle,
    asked: Mutex<Instant>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.fetching.abort();
    }
}

impl Default for Watchers {
    fn default() -> Self {
        let slots = Arc::new(Semaphore::new(MAX_WATCHERS));
        Self { slots, directories: Arc::default(), polled: Mutex::default() }
    }
}

impl Watchers {
    pub fn budget(&self) -> Budget {
        Budget::new(Arc::clone(&self.directories))
    }

    pub fn slot(&self) -> Result<OwnedSemaphorePermit, ConnectError> {
        let take = || Arc::clone(&self.slots).try_acquire_owned();
        take().or_else(|_| {
            self.drop_forgotten();
            take().map_err(|_| exhausted(format!("{MAX_WATCHERS} watches are open")))
        })
    }

    /// The id by which it is polled.
    pub fn add(&self, watcher: Watcher) -> String {
        let (watcher, room) = (Arc::new(watcher), Arc::new(Notify::new()));
        let fetching = tokio::spawn(fetch(Arc::clone(&watcher), Arc::clone(&room))).abort_handle();
        let asked = Mutex::new(Instant::now());
        let mut polled = self.polled();
        polled.next += 1;
        let id = format!("w{}", polled.next);
        polled.all.insert(id.clone(), Arc::new(Entry { watcher, room, fetching, asked }));
        id
    }

    /// All events up to now. A watch that has failed says so once they are fetched.
    pub async fn poll(&self, id: &str) -> Result<Vec<Event>, ConnectError> {
        let entry = self.polled().all.get(id).cloned().ok_or_else(|| missing(id))?;
        *lock(&entry.asked) = Instant::now();
        let mut state = entry.watcher.update().await?;
        let failure = state.failure();
        let events = state.take();
        entry.room.notify_one();
        failure.map_or(Ok(events), Err)
    }

    pub fn remove(&self, id: &str) -> Result<(), ConnectError> {
        self.polled().all.remove(id).map(drop).ok_or_else(|| missing(id))
    }

    fn drop_forgotten(&self) {
        self.polled().all.retain(|_, entry| lock(&entry.asked).elapsed() < FORGOTTEN);
    }

    fn polled(&self) -> MutexGuard<'_, Polled> {
        lock(&self.polled)
    }
}

/// Until the watch fails: the poll tells of it.
async fn fetch(watcher: Arc<Watcher>, room: Arc<Notify>) {
    while let Ok(state) = watcher.update().await {
        if state.has_failed() {
            return;
        }
        let drained = state.is_drained();
        drop(state);
        if !drained {
            room.notified().await;
        } else if watcher.ready().await.is_err() {
            return;
        }
    }
}

fn missing(id: &str) -> ConnectError {
    ConnectError::new(Code::NotFound, format!("watcher with id {id} not found"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
