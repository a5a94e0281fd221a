//! A control group per process, so that killing it reaches children that left its session.
//! Only in a guest, where the agent owns the hierarchy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

const ROOT: &str = "/sys/fs/cgroup/perch";

const MEMORY_EVENTS: &str = "memory.events";

/// Groups kept for the next commands, which then wait for none to be made.
const MAX_SPARE: usize = 4;

#[derive(Default)]
pub struct Groups {
    next: AtomicU64,
    /// Tasks that one group may have.
    tasks: Option<u64>,
    left: Mutex<Left>,
}

/// Groups that have no command.
#[derive(Default)]
struct Left {
    /// As they were made.
    spare: Vec<PathBuf>,
    /// Their processes ended while others in them live on.
    occupied: Vec<PathBuf>,
}

impl Groups {
    /// `None` where the kernel has no second version of control groups mounted, or cannot kill
    /// a group.
    pub fn open() -> Option<Arc<Self>> {
        fs::create_dir_all(ROOT).ok()?;
        let can_kill = Path::new(ROOT).join("cgroup.kill").exists();
        let groups =
            can_kill.then(|| Arc::new(Self { tasks: share_machine(), ..Self::default() }))?;
        // Every guest that goes on from this one finds a group for its first command.
        if let Ok(group) = groups.make() {
            groups.left().spare.push(group);
        }
        Some(groups)
    }

    pub fn create(self: &Arc<Self>) -> io::Result<Group> {
        let mut left = self.left();
        left.occupied.retain(|path| fs::remove_dir(path).is_err());
        let path = match left.spare.pop() {
            Some(path) => path,
            None => self.make()?,
        };
        Ok(Group { path, groups: Arc::clone(self) })
    }

    fn make(&self) -> io::Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(ROOT).join(number.to_string());
        fs::create_dir(&path)?;
        if let Some(tasks) = self.tasks {
            fs::write(path.join("pids.max"), tasks.to_string())?;
        }
        Ok(path)
    }

    fn give_back(&self, path: PathBuf) {
        let mut left = self.left();
        if left.spare.len() < MAX_SPARE && self.is_as_made(&path).unwrap_or(false) {
            left.spare.push(path);
        } else if fs::remove_dir(&path).is_err() {
            left.occupied.push(path);
        }
    }

    /// Whether nobody is in it, and a command that was root has changed nothing of it.
    fn is_as_made(&self, path: &Path) -> io::Result<bool> {
        let read = |name| fs::read_to_string(path.join(name));
        let limited = match self.tasks {
            Some(tasks) => read("pids.max")?.trim() == tasks.to_string(),
            None => true,
        };
        // Not there without the controller. Counts are for the life of a group.
        let memory = |name| read(name).unwrap_or_default();
        let unlimited = ["memory.max", "memory.high"]
            .map(memory)
            .iter()
            .all(|limit| matches!(limit.trim(), "" | "max"));
        let unharmed = oom_kills(&memory(MEMORY_EVENTS)) == 0;
        // A group within it is a link more.
        Ok(limited
            && unlimited
            && unharmed
            && read("cgroup.events")? == "populated 0\nfrozen 0\n"
            && read("cgroup.subtree_control")?.trim().is_empty()
            && fs::metadata(path)?.nlink() == 2)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Gives each group the same share of the processor, and leaves tasks for the agent and for one more group:
/// a fork bomb must keep neither from running. A kernel without these controllers does without.
///
/// Returns the tasks that one group may have.
fn share_machine() -> Option<u64> {
    let tasks = fs::read_to_string("/proc/sys/kernel/threads-max").ok()?;
    let tasks: u64 = tasks.trim().parse().ok()?;
    let root = Path::new(ROOT);
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +pids").ok()?;
    fs::write(root.join("pids.max"), (tasks / 4 * 3).to_string()).ok()?;
    fs::write(root.join("cgroup.subtree_control"), "+cpu +pids").ok()?;
    // Only for its counts. Apart, so that a kernel without it has the others.
    let counted = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
        .and_then(|()| fs::write(root.join("cgroup.subtree_control"), "+memory"));
    if let Err(error) = counted {
        eprintln!("perch-guest: memory is not counted by command: {error}");
    }
    Some(tasks / 2)
}

/// Of the text of `memory.events`; 0 when it does not say.
fn oom_kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Given back when dropped: kept for another, removed, or removed later when something still lives in it.
pub struct Group {
    path: PathBuf,
    groups: Arc<Groups>,
}

impl Group {
    /// The control group that a child is forked into.
    pub fn directory(&self) -> io::Result<OwnedFd> {
        let flags = libc::O_DIRECTORY | libc::O_PATH;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        Ok(directory.into())
    }

    /// Whether the kernel killed a process in it for want of memory, be it the group's or the machine's.
    pub fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join(MEMORY_EVENTS)).unwrap_or_default();
        oom_kills(&events) > 0
    }

    pub fn kill(&self) -> io::Result<()> {
        use std::io::Write;
        File::options().write(true).open(self.path.join("cgroup.kill"))?.write_all(b"1")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.groups.give_back(std::mem::take(&mut self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_told_from_other_events_of_memory() {
        let events = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n";
        assert_eq!(oom_kills(events), 3);
        assert_eq!(oom_kills("oom 2\noom_group_kill 1\n"), 0);
        assert_eq!(oom_kills(""), 0);
    }
}
