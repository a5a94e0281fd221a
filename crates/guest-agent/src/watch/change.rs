//! A change, before anybody has looked at the file.

use std::path::PathBuf;

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    #[serde(rename = "EVENT_TYPE_CREATE")]
    Create,
    /// Of the name that a file had.
    #[serde(rename = "EVENT_TYPE_RENAME")]
    Rename,
    #[serde(rename = "EVENT_TYPE_CHMOD")]
    Chmod,
    #[serde(rename = "EVENT_TYPE_WRITE")]
    Write,
    #[serde(rename = "EVENT_TYPE_REMOVE")]
    Remove,
}

impl Kind {
    /// Whether the name means a file after it.
    pub fn leaves_file(self) -> bool {
        matches!(self, Self::Create | Self::Chmod | Self::Write)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    /// From the watched directory, which itself is empty.
    pub path: PathBuf,
}
