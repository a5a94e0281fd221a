//! Changes in a directory, as `filesystem.Filesystem` tells them: `WatchDir`, and the watchers that clients poll.
//!
//! ```text
//! kernel's queue ─▶ `Watch`: tree of directories, changes ─▶ `Watcher`: events ─▶ stream, or the next poll
//! ```
//!
//! Nothing is read before there is room for it, so that the kernel's own queue is the bound of what waits. It says
//! when it has lost something; then, and when a tree outgrows what can be watched, the watch ends with an error.

mod budget;
mod change;
mod messages;
mod place;
mod polled;
mod queue;
mod renames;
mod service;
mod stream;
mod tree;
mod walk;
mod watched;
mod watcher;

pub use polled::Watchers;
pub use service::{create_watcher, get_events, remove_watcher, watch_dir};
