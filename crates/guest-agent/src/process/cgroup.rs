//! A control group per process, so that killing it reaches children that left its session.
//! Only in a guest, where the agent owns the hierarchy.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const ROOT: &str = "/sys/fs/cgroup/perch";

#[derive(Default)]
pub struct Groups {
    next: AtomicU64,
    /// Tasks that one group may have.
    tasks: Option<u64>,
    /// Of processes that ended while others in their group live on.
    occupied: Mutex<Vec<PathBuf>>,
}

impl Groups {
    /// `None` where the kernel has no second version of control groups mounted, or cannot kill
    /// a group.
    pub fn open() -> Option<Arc<Self>> {
        fs::create_dir_all(ROOT).ok()?;
        let can_kill = Path::new(ROOT).join("cgroup.kill").exists();
        can_kill.then(|| Arc::new(Self { tasks: share_machine(), ..Self::default() }))
    }

    pub fn create(self: &Arc<Self>) -> io::Result<Group> {
        self.sweep();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(ROOT).join(number.to_string());
        fs::create_dir(&path)?;
        if let Some(tasks) = self.tasks {
            fs::write(path.join("pids.max"), tasks.to_string())?;
        }
        Ok(Group { path, groups: Arc::clone(self) })
    }

    /// Removes groups that have become empty.
    fn sweep(&self) {
        let mut occupied = self.occupied.lock().unwrap_or_else(|error| error.into_inner());
        occupied.retain(|path| fs::remove_dir(path).is_err());
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

/// Removed when dropped, or later when something still lives in it.
pub struct Group {
    path: PathBuf,
    groups: Arc<Groups>,
}

impl Group {
    /// What a child writes `0` to, to move itself in.
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        let file = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))?;
        Ok(file.into())
    }

    pub fn kill(&self) -> io::Result<()> {
        use std::io::Write;
        File::options().write(true).open(self.path.join("cgroup.kill"))?.write_all(b"1")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err() {
            let mut occupied = self.groups.occupied.lock().unwrap_or_else(|e| e.into_inner());
            occupied.push(std::mem::take(&mut self.path));
        }
    }
}
