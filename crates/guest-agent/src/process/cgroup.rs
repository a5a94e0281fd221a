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
        // A group within it is a link more.
        Ok(limited
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
    Some(tasks / 2)
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
