//! Directories that a recursive watch takes in: those that are there at first, and those that come later. The files
//! in later ones may have come before the watch did, so a walk tells of them.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::budget::MAX_DIRECTORIES;
use super::place::Place;
use super::queue::Number;
use super::watched::{Watch, exhausted, too_many_directories, too_many_watches};
use crate::filesystem::OwnName;
use crate::rpc::ConnectError;

/// Most entries that one walk looks at.
const MAX_ENTRIES: usize = 1 << 20;

struct Walk {
    /// Directories to be watched: the one that each is in, and its name.
    ahead: Vec<(Number, OsString)>,
    seen: usize,
    /// Whether to tell of the files.
    told: bool,
}

impl Watch {
    pub(super) fn walk_root(&mut self) {
        let mut walk = Walk { ahead: Vec::new(), seen: 0, told: false };
        let path = self.root.clone();
        self.look(self.tree.root(), &path, &mut walk);
        self.go(walk);
    }

    /// Watches the directory of that name, and all below it.
    pub(super) fn walk(&mut self, parent: Number, name: OsString) {
        self.go(Walk { ahead: vec![(parent, name)], seen: 0, told: true });
    }

    fn go(&mut self, mut walk: Walk) {
        while let Some((parent, name)) = walk.ahead.pop() {
            if self.has_failed() {
                return;
            }
            let Some(above) = self.tree.path(parent) else { continue };
            let path = self.root.join(above).join(&name);
            if let Some(directory) = self.take_in(&path, parent, name) {
                self.look(directory, &path, &mut walk);
            }
        }
    }

    /// `None` where there is nothing to watch: gone, a link by now, not ours to read, or watched already.
    fn take_in(&mut self, path: &Path, parent: Number, name: OsString) -> Option<Number> {
        match Place::of(path).ok()? {
            Place::Kernel => return None,
            Place::Network if !self.allow_network => return None,
            Place::Network | Place::Local => {}
        }
        let directory = match self.queue.add(path, false) {
            Ok(directory) => directory,
            Err(error) => {
                match error.raw_os_error() {
                    Some(libc::ENOSPC) => self.fail(too_many_watches()),
                    Some(libc::ENOMEM | libc::ENAMETOOLONG) => {
                        self.fail(ConnectError::from_io(path.display(), &error));
                    }
                    _ => {}
                }
                return None;
            }
        };
        if !self.tree.insert(directory, parent, name) {
            return None;
        }
        if !self.budget.take() {
            self.tree.remove(directory);
            self.fail(too_many_directories());
            return None;
        }
        Some(directory)
    }

    fn look(&mut self, directory: Number, path: &Path, walk: &mut Walk) {
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.map_while(Result::ok) {
            if self.has_failed() {
                return;
            }
            walk.seen += 1;
            if walk.seen > MAX_ENTRIES || walk.ahead.len() > MAX_DIRECTORIES {
                let message = format!("{} holds too much to be watched", self.root.display());
                return self.fail(exhausted(message));
            }
            let name = entry.file_name();
            let Ok(kind) = entry.file_type() else { continue };
            if OwnName::of(&name).is_some() {
                continue;
            }
            if walk.told {
                let written = kind.is_file() && entry.metadata().is_ok_and(|found| found.len() > 0);
                self.announce(directory, &name, written);
            }
            if kind.is_dir() {
                walk.ahead.push((directory, name));
            }
        }
    }
}
