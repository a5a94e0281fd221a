//! JSON of the calls about watches.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::change::{Change, Kind};
use crate::escape;
use crate::filesystem::{EntryInfo, describe};
use crate::users::Names;

/// Longest entry of an event, `bytes`: a file's metadata can be as long as the file system lets it.
const MAX_ENTRY: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
pub struct WatchRequest {
    pub path: String,
    pub recursive: bool,
    pub include_entry: bool,
    pub allow_network_mounts: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    pub watcher_id: String,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[derive(Default)]
pub struct WatcherRequest {
    pub watcher_id: String,
}

#[derive(Serialize)]
pub struct Events {
    pub events: Vec<Event>,
}

#[derive(Serialize)]
pub struct Done {}

/// The messages of the stream.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Message<'a> {
    Start {},
    Filesystem(&'a Event),
    Keepalive {},
}

#[derive(Serialize)]
pub struct Event {
    /// From the watched directory, which itself is `.`.
    name: String,
    r#type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryInfo>,
}

impl Event {
    /// `names` are there when the entry is wanted. It is left out when the file cannot be looked at.
    pub fn new(change: &Change, root: &Path, names: Option<&Names>) -> Self {
        let entry = names.filter(|_| change.kind.leaves_file()).and_then(|names| {
            let path = root.join(&change.path);
            describe(&path, &path, names).ok().filter(|entry| entry.weight() <= MAX_ENTRY)
        });
        let is_root = change.path.as_os_str().is_empty();
        let name = if is_root { ".".into() } else { escape::to_text(&change.path) };
        Self { name, r#type: change.kind, entry }
    }

    /// About how long it is. `bytes`
    pub fn weight(&self) -> usize {
        64 + self.name.len() + self.entry.as_ref().map_or(0, EntryInfo::weight)
    }
}
