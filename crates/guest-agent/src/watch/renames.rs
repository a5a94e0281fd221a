//! The first halves of renames, until the second comes. The kernel tells both one after the other, but not at once,
//! and of a name that leaves what is watched only the first.

use std::collections::VecDeque;

use super::queue::Number;
use crate::filesystem::OwnName;

/// Renames that are under way at one time.
const MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A watched directory.
    Directory(Number),
    /// A file that the agent had made under a name of its own.
    Own(OwnName),
}

#[derive(Default)]
pub struct Renames(VecDeque<(u32, Moved)>);

impl Renames {
    /// The one that has waited longest goes when there are too many; it is returned.
    #[must_use]
    pub fn begin(&mut self, cookie: u32, moved: Moved) -> Option<Moved> {
        self.0.push_back((cookie, moved));
        if self.0.len() <= MAX {
            return None;
        }
        self.0.pop_front().map(|(_, moved)| moved)
    }

    pub fn finish(&mut self, cookie: u32) -> Option<Moved> {
        let index = self.0.iter().rposition(|(of, _)| *of == cookie)?;
        self.0.remove(index).map(|(_, moved)| moved)
    }

    pub fn has_directories(&self) -> bool {
        self.0.iter().any(|(_, moved)| matches!(moved, Moved::Directory(_)))
    }

    /// The directories among them, which have left what is watched. Names of our own stay: they cost nothing, and
    /// without them an upload would look like any other rename.
    pub fn give_up_directories(&mut self) -> Vec<Number> {
        let mut directories = Vec::new();
        self.0.retain(|(_, moved)| match moved {
            Moved::Directory(number) => {
                directories.push(*number);
                false
            }
            Moved::Own(_) => true,
        });
        directories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_is_known_by_its_cookie() {
        let mut renames = Renames::default();
        let own = Moved::Own(OwnName::Upload);
        assert_eq!(renames.begin(7, own), None);
        assert_eq!(renames.begin(8, Moved::Directory(3)), None);
        assert_eq!(renames.finish(9), None);
        assert!(renames.has_directories());
        assert_eq!(renames.give_up_directories(), [3]);
        assert_eq!(renames.finish(7), Some(own));
        assert_eq!(renames.finish(7), None);
    }

    #[test]
    fn no_more_than_some_are_waited_for() {
        let mut renames = Renames::default();
        let mut begin = |cookie| renames.begin(cookie, Moved::Directory(cookie as Number));
        let gone: Vec<_> = (0..MAX as u32 + 1).filter_map(&mut begin).collect();
        assert_eq!(gone, [Moved::Directory(0)]);
    }
}
