//! The directories of one watch by the kernel's numbers. A directory that moves within the tree takes all below it
//! along, so each knows only its own name.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::queue::Number;

pub struct Tree {
    root: Number,
    nodes: HashMap<Number, Node>,
}

struct Node {
    /// Directory and name; `None` of the root.
    place: Option<(Number, OsString)>,
    children: BTreeMap<OsString, Number>,
}

impl Node {
    fn at(place: Option<(Number, OsString)>) -> Self {
        Self { place, children: BTreeMap::new() }
    }
}

impl Tree {
    pub fn new(root: Number) -> Self {
        Self { root, nodes: HashMap::from([(root, Node::at(None))]) }
    }

    pub fn root(&self) -> Number {
        self.root
    }

    pub fn holds(&self, directory: Number) -> bool {
        self.nodes.contains_key(&directory)
    }

    /// From the root, whose own path is empty. `None` for a directory that is not of the tree.
    pub fn path(&self, directory: Number) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut node = self.nodes.get(&directory)?;
        while let Some((parent, name)) = &node.place {
            names.push(name);
            node = self.nodes.get(parent)?;
        }
        Some(names.into_iter().rev().collect())
    }

    /// Whether the directory is new: a mount may show one twice.
    pub fn insert(&mut self, directory: Number, parent: Number, name: OsString) -> bool {
        if self.holds(directory) || !self.holds(parent) {
            return false;
        }
        self.nodes.insert(directory, Node::at(Some((parent, name.clone()))));
        self.adopt(directory, parent, name);
        true
    }

    /// The directory of that name, which has it no longer. Until it is attached or removed, it has its old path.
    pub fn detach(&mut self, parent: Number, name: &OsStr) -> Option<Number> {
        self.nodes.get_mut(&parent)?.children.remove(name)
    }

    /// Whether a detached directory has its new place; not when that would be in itself, which only a lost event
    /// can make it seem.
    pub fn attach(&mut self, directory: Number, parent: Number, name: OsString) -> bool {
        let mut above = Some(parent);
        while let Some(number) = above {
            let Some(node) = self.nodes.get(&number) else { return false };
            if number == directory {
                return false;
            }
            above = node.place.as_ref().map(|(parent, _)| *parent);
        }
        let Some(node) = self.nodes.get_mut(&directory) else { return false };
        node.place = Some((parent, name.clone()));
        self.adopt(directory, parent, name);
        true
    }

    /// Takes the directory and all below it out, and says which they were.
    pub fn remove(&mut self, directory: Number) -> Vec<Number> {
        let place = self.nodes.get(&directory).and_then(|node| node.place.clone());
        if let Some((parent, name)) = place {
            if let Some(parent) = self.nodes.get_mut(&parent) {
                // Another may have the name by now.
                if parent.children.get(&name) == Some(&directory) {
                    parent.children.remove(&name);
                }
            }
        }
        let (mut removed, mut ahead) = (Vec::new(), vec![directory]);
        while let Some(number) = ahead.pop() {
            let Some(node) = self.nodes.remove(&number) else { continue };
            removed.push(number);
            ahead.extend(node.children.into_values());
        }
        removed
    }

    fn adopt(&mut self, directory: Number, parent: Number, name: OsString) {
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children.insert(name, directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `1/a(2)/b(3)` and `1/c(4)`.
    fn tree() -> Tree {
        let mut tree = Tree::new(1);
        assert!(tree.insert(2, 1, "a".into()));
        assert!(tree.insert(3, 2, "b".into()));
        assert!(tree.insert(4, 1, "c".into()));
        tree
    }

    fn path(tree: &Tree, directory: Number) -> Option<String> {
        Some(tree.path(directory)?.to_str()?.to_owned())
    }

    #[test]
    fn a_directory_that_moves_takes_those_below_it_along() {
        let mut tree = tree();
        assert_eq!(tree.path(1).as_deref(), Some(Path::new("")));
        assert_eq!(tree.detach(1, OsStr::new("a")), Some(2));
        assert_eq!(path(&tree, 3).as_deref(), Some("a/b"));
        assert!(tree.attach(2, 4, "d".into()));
        assert_eq!(path(&tree, 3).as_deref(), Some("c/d/b"));
    }

    #[test]
    fn a_directory_that_goes_takes_those_below_it_along() {
        let mut tree = tree();
        let mut removed = tree.remove(2);
        removed.sort_unstable();
        assert_eq!(removed, [2, 3]);
        assert_eq!(path(&tree, 3), None);
        assert!(tree.remove(3).is_empty());
        assert!(tree.insert(5, 1, "a".into()));
    }

    #[test]
    fn a_name_that_has_gone_to_another_stays_its_own() {
        let mut tree = tree();
        tree.detach(1, OsStr::new("a"));
        assert!(tree.insert(5, 1, "a".into()));
        tree.remove(2);
        assert_eq!(tree.detach(1, OsStr::new("a")), Some(5));
    }

    #[test]
    fn no_directory_gets_into_itself_or_into_what_is_not_there() {
        let mut tree = tree();
        tree.detach(1, OsStr::new("a"));
        assert!(!tree.attach(2, 3, "x".into()));
        assert!(!tree.attach(2, 99, "x".into()));
        assert!(!tree.insert(3, 4, "again".into()));
        assert!(!tree.insert(9, 99, "x".into()));
    }
}
