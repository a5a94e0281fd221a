//! One watched directory, or tree of them: events of the kernel become changes of paths.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::inotify::ReadFlags;

use super::budget::Budget;
use super::change::{Change, Kind};
use super::place::Place;
use super::queue::{Number, Queue, Raw};
use super::renames::{Moved, Renames};
use super::tree::Tree;
use crate::errno::Reason;
use crate::filesystem::OwnName;
use crate::rpc::{Code, ConnectError};

/// Paths of changes that are known and not fetched yet, `bytes`. A tree that appears at once has many.
const MAX_HELD: usize = 4 << 20;
/// Names that a walk has told of, and whose own events may still come.
const MAX_ANNOUNCED: usize = 65_536;
/// Wait for the second half of a rename: the kernel is between the two.
const SECOND_HALF: Duration = Duration::from_millis(5);

pub struct Watch {
    pub(super) root: PathBuf,
    pub(super) recursive: bool,
    pub(super) allow_network: bool,
    pub(super) queue: Queue,
    pub(super) tree: Tree,
    pub(super) budget: Budget,
    renames: Renames,
    /// Whether the second half of a rename has been waited for.
    waited: bool,
    /// The names of files that a walk found in a new directory: their creation may be in the queue too. Once that
    /// has been empty, it is not.
    announced: HashSet<(Number, OsString)>,
    changes: VecDeque<Change>,
    held: usize,
    failure: Option<ConnectError>,
}

impl Watch {
    /// Blocks, for a tree as long as it takes to walk it.
    pub fn open(
        root: PathBuf,
        recursive: bool,
        allow_network: bool,
        mut budget: Budget,
    ) -> Result<Self, ConnectError> {
        let failed = |error| ConnectError::from_io(root.display(), &error);
        if !root.metadata().map_err(failed)?.is_dir() {
            let message = format!("path is not a directory: {}", root.display());
            return Err(ConnectError::because(Reason::NotDirectory, message));
        }
        if !allow_network && Place::of(&root).map_err(failed)? == Place::Network {
            let message =
                format!("cannot watch a path on a network file system: {}", root.display());
            return Err(ConnectError::because(Reason::Invalid, message));
        }
        if !budget.take() {
            return Err(too_many_directories());
        }
        let queue = Queue::new().map_err(|error| match error.raw_os_error() {
            Some(libc::EMFILE) => {
                exhausted("the sandbox has no more of fs.inotify.max_user_instances")
            }
            _ => ConnectError::from_io("inotify", &error),
        })?;
        let number = queue.add(&root, true).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSPC) => too_many_watches(),
            _ => failed(error),
        })?;
        let mut watch = Self {
            root,
            recursive,
            allow_network,
            queue,
            tree: Tree::new(number),
            budget,
            renames: Renames::default(),
            waited: false,
            announced: HashSet::new(),
            changes: VecDeque::new(),
            held: 0,
            failure: None,
        };
        if recursive {
            watch.walk_root();
        }
        watch.failure.take().map_or(Ok(watch), Err)
    }

    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The next change; `None` when there is none now, or never again: then there is a failure. Blocks.
    pub fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                self.held -= change.path.as_os_str().len();
                return Some(change);
            }
            if self.failure.is_some() {
                return None;
            }
            match self.queue.read() {
                Ok(Some(events)) => events.into_iter().for_each(|event| self.interpret(event)),
                Ok(None) if self.awaits_second_half() => {}
                Ok(None) => {
                    self.announced.clear();
                    return None;
                }
                Err(error) => self.fail(ConnectError::from_io("inotify", &error)),
            }
        }
    }

    /// The reason why nothing more will come.
    pub fn failure(&self) -> Option<&ConnectError> {
        self.failure.as_ref()
    }

    fn interpret(&mut self, event: Raw) {
        let Raw { directory, flags, cookie, name } = event;
        if self.failure.is_some() {
            return;
        }
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.fail(lost());
        }
        if flags.contains(ReadFlags::IGNORED) {
            return self.leave(directory);
        }
        let Some(name) = name else {
            return if directory == self.tree.root() {
                self.interpret_root(flags)
            };
        };
        if !self.tree.holds(directory) {
            return;
        }
        if let Some(own) = OwnName::of(&name) {
            if flags.contains(ReadFlags::MOVED_FROM) && !flags.contains(ReadFlags::ISDIR) {
                self.begin(cookie, Moved::Own(own));
            }
            return;
        }
        let is_directory = flags.contains(ReadFlags::ISDIR);
        if flags.contains(ReadFlags::CREATE) {
            self.appeared(directory, &name, is_directory);
        } else if flags.contains(ReadFlags::MOVED_TO) {
            self.moved_to(directory, name, cookie, is_directory);
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            self.announced.remove(&(directory, name.clone()));
            self.push(Kind::Rename, directory, &name);
            if let Some(child) = self.tree.detach(directory, &name) {
                self.begin(cookie, Moved::Directory(child));
            }
        } else if flags.contains(ReadFlags::ATTRIB) {
            self.push(Kind::Chmod, directory, &name);
        } else if flags.contains(ReadFlags::MODIFY) {
            self.push(Kind::Write, directory, &name);
        } else if flags.contains(ReadFlags::DELETE) {
            self.announced.remove(&(directory, name.clone()));
            self.push(Kind::Remove, directory, &name);
        }
    }

    /// The directories below the root tell of themselves by the ones that they are in.
    fn interpret_root(&mut self, flags: ReadFlags) {
        if flags.contains(ReadFlags::ATTRIB) {
            return self.push_root(Kind::Chmod);
        }
        let moved = flags.contains(ReadFlags::MOVE_SELF);
        if moved || flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
            self.push_root(if moved { Kind::Rename } else { Kind::Remove });
            let message = format!("the watched directory is gone: {}", self.root.display());
            self.fail(ConnectError::because(Reason::Missing, message));
        }
    }

    /// An upload is a new file that is changed and written, or one that is written, and nothing else.
    fn moved_to(&mut self, directory: Number, name: OsString, cookie: u32, is_directory: bool) {
        match self.renames.finish(cookie) {
            Some(Moved::Own(OwnName::Replacement)) => self.push(Kind::Write, directory, &name),
            Some(Moved::Own(OwnName::Upload)) => {
                self.appeared(directory, &name, false);
                self.push(Kind::Chmod, directory, &name);
                self.push(Kind::Write, directory, &name);
            }
            Some(Moved::Directory(child)) => {
                self.push(Kind::Create, directory, &name);
                if !self.tree.attach(child, directory, name) {
                    self.leave(child);
                }
            }
            Some(Moved::Own(OwnName::Move)) | None => self.appeared(directory, &name, is_directory),
        }
    }

    fn appeared(&mut self, directory: Number, name: &OsString, is_directory: bool) {
        if !self.announced.remove(&(directory, name.clone())) {
            self.push(Kind::Create, directory, name);
        }
        if is_directory && self.recursive {
            self.walk(directory, name.clone());
        }
    }

    /// Tells of a file that a walk found.
    pub(super) fn announce(&mut self, directory: Number, name: &OsString, has_content: bool) {
        if self.announced.len() >= MAX_ANNOUNCED {
            self.announced.clear();
        }
        self.announced.insert((directory, name.clone()));
        self.push(Kind::Create, directory, name);
        if has_content {
            self.push(Kind::Write, directory, name);
        }
    }

    fn begin(&mut self, cookie: u32, moved: Moved) {
        if let Some(Moved::Directory(child)) = self.renames.begin(cookie, moved) {
            self.leave(child);
        }
    }

    /// Whether to read once more. Directories whose rename has no second half have left the tree.
    fn awaits_second_half(&mut self) -> bool {
        self.waited = self.renames.has_directories() && !self.waited;
        if self.waited {
            thread::sleep(SECOND_HALF);
        } else {
            let gone = self.renames.give_up_directories();
            gone.into_iter().for_each(|directory| self.leave(directory));
        }
        self.waited
    }

    /// Watches a directory, and those below it, no longer.
    fn leave(&mut self, directory: Number) {
        let removed = self.tree.remove(directory);
        self.budget.give_back(removed.len());
        removed.into_iter().for_each(|number| self.queue.remove(number));
    }

    fn push(&mut self, kind: Kind, directory: Number, name: &OsString) {
        if let Some(path) = self.tree.path(directory) {
            self.push_path(kind, path.join(name));
        }
    }

    fn push_root(&mut self, kind: Kind) {
        self.push_path(kind, PathBuf::new());
    }

    fn push_path(&mut self, kind: Kind, path: PathBuf) {
        self.held += path.as_os_str().len();
        self.changes.push_back(Change { kind, path });
        if self.held > MAX_HELD {
            self.fail(lost());
        }
    }

    /// The first failure is the one that counts.
    pub(super) fn fail(&mut self, error: ConnectError) {
        self.failure.get_or_insert(error);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }
}

pub fn exhausted(message: impl Into<String>) -> ConnectError {
    ConnectError::because(Reason::Exhausted, message)
}

fn lost() -> ConnectError {
    let message = "events were lost: list the directory and watch it again";
    ConnectError::new(Code::ResourceExhausted, message)
}

pub(super) fn too_many_directories() -> ConnectError {
    let most = super::budget::MAX_DIRECTORIES;
    exhausted(format!("watches of this sandbox hold {most} directories, and no more is possible"))
}

pub(super) fn too_many_watches() -> ConnectError {
    exhausted("the sandbox has no more of fs.inotify.max_user_watches")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;

    fn open(path: &Path, recursive: bool, budget: Budget) -> Result<Watch, ConnectError> {
        Watch::open(path.to_owned(), recursive, false, budget)
    }

    fn all(watch: &mut Watch) -> Vec<(Kind, String)> {
        let text = |change: Change| (change.kind, change.path.to_str().unwrap().to_owned());
        std::iter::from_fn(|| watch.next()).map(text).collect()
    }

    #[tokio::test]
    async fn events_that_the_kernel_has_lost_end_the_watch_after_those_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = open(folder.path(), false, Budget::new(Arc::default())).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&a, "").unwrap();
        for _ in 0..most.trim().parse::<usize>().unwrap() / 4 + 1 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        let changes = all(&mut watch);
        assert_eq!(changes[..2], [(Kind::Create, "a".into()), (Kind::Rename, "a".into())]);
        assert_eq!(watch.failure(), Some(&lost()));
        fs::remove_file(&a).unwrap();
        assert_eq!(watch.next(), None);
    }

    #[tokio::test]
    async fn files_are_told_once_that_came_while_their_directory_was_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = open(folder.path(), true, Budget::new(Arc::default())).unwrap();
        let directory = folder.path().join("d");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("before"), "x").unwrap();
        assert_eq!(watch.next().unwrap().path, Path::new("d"));
        // The walk has been; the kernel has both of these in its queue and one on the list.
        watch.announced.insert((watch.tree.root() + 1, "during".into()));
        fs::write(directory.join("during"), "x").unwrap();
        fs::write(directory.join("after"), "").unwrap();
        let file = |kind, name: &str| (kind, format!("d/{name}"));
        let expected = [
            file(Kind::Create, "before"),
            file(Kind::Write, "before"),
            file(Kind::Write, "during"),
            file(Kind::Create, "after"),
        ];
        assert_eq!(all(&mut watch), expected);
        fs::remove_file(directory.join("during")).unwrap();
        fs::write(directory.join("during"), "").unwrap();
        assert_eq!(all(&mut watch), [file(Kind::Remove, "during"), file(Kind::Create, "during")]);
    }

    #[tokio::test]
    async fn the_directories_of_all_watches_have_a_bound_and_are_given_back() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let all = Arc::default();
        let watch = open(folder.path(), true, Budget::new(Arc::clone(&all))).unwrap();
        assert_eq!(all.load(std::sync::atomic::Ordering::Relaxed), 3);
        drop(watch);
        let mut rest = Budget::new(Arc::clone(&all));
        while rest.take() {}
        rest.give_back(2);
        let error = open(folder.path(), true, Budget::new(Arc::clone(&all))).err().unwrap();
        assert_eq!(error, too_many_directories());
        rest.give_back(1);
        assert!(open(folder.path(), true, Budget::new(all)).is_ok());
    }

    #[tokio::test]
    async fn file_systems_of_the_kernel_are_not_walked() {
        let mut watch = open(Path::new("/proc"), true, Budget::new(Arc::default())).unwrap();
        assert_eq!(watch.tree.remove(watch.tree.root()).len(), 1);
    }
}
