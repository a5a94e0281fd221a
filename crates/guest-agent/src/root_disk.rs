//! The root disk of a machine that is about to be put aside without its memory: all that programs have
//! written is on it, and its file system is clean.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::Machine;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`, from include/uapi/linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;
/// Whoever has it held stops the machine at once. If not, programs that write must not wait for ever.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct RootDisk {
    machine: Machine,
    told: Arc<Told>,
    kernel: Kernel,
}

#[derive(Clone, Copy)]
struct Kernel {
    sync: fn(),
    /// Does one of the two with the root file system.
    tell: fn(libc::c_ulong) -> io::Result<()>,
}

#[derive(Default)]
struct Told {
    /// How often somebody asked to let go of the disk, or went away instead.
    let_go: AtomicU64,
    /// How often it was held or let go of. Locked while the kernel is told, on threads that may block: the kernel does
    /// not let go of what it is still about to hold.
    changes: Mutex<u64>,
}

impl Told {
    fn changes(&self) -> MutexGuard<'_, u64> {
        self.changes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether nobody has let go since `let_go` was `before`.
    fn still_wanted(&self, before: u64) -> io::Result<()> {
        if self.let_go.load(Ordering::SeqCst) == before {
            return Ok(());
        }
        Err(io::Error::other("the disk was let go of before it was held"))
    }
}

/// Whoever waits for a hold. One that goes lets go of it.
struct Asker<'a>(&'a Told);

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.0.let_go.fetch_add(1, Ordering::SeqCst);
    }
}

impl RootDisk {
    pub fn new(machine: Machine) -> Self {
        let kernel = Kernel { sync: rustix::fs::sync, tell };
        Self { machine, told: Arc::default(), kernel }
    }

    /// Writes out what is only in memory yet.
    pub async fn write_out(&self) -> io::Result<()> {
        self.owned()?;
        let Kernel { sync, .. } = self.kernel;
        blocking(move || {
            sync();
            Ok(())
        })
        .await
    }

    /// The same, and nothing is written from then on until it is let go of. Nothing is held for somebody who is gone
    /// before it is: the host gives up a guest that waits for room on the host's disk, which goes on when there is
    /// some. Safe to repeat.
    pub async fn hold(&self) -> io::Result<()> {
        self.owned()?;
        let (told, kernel) = (Arc::clone(&self.told), self.kernel);
        let before = told.let_go.load(Ordering::SeqCst);
        let asker = Asker(&self.told);
        let held = blocking(move || {
            // Also file systems that lie in files of this one.
            (kernel.sync)();
            let mut changes = told.changes();
            told.still_wanted(before)?;
            *changes += 1;
            let (held, later) = (*changes, Arc::clone(&told));
            // A thread of its own, and there before: a call that writes may hold the others up.
            thread::Builder::new().spawn(move || {
                thread::sleep(PATIENCE);
                let changes = later.changes();
                if *changes == held {
                    // Without a hold there is nothing to let go of.
                    let _ = thaw(kernel);
                }
            })?;
            let begun = Instant::now();
            match (kernel.tell)(FIFREEZE) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                result => result?,
            }
            told.still_wanted(before).inspect_err(|_| drop(thaw(kernel)))?;
            // It is about to be let go of.
            if begun.elapsed() >= PATIENCE {
                return Err(io::Error::other("the disk was written to for too long to be held"));
            }
            Ok(())
        })
        .await;
        mem::forget(asker);
        held
    }

    /// Lets programs write again. Safe to repeat.
    pub async fn let_go(&self) -> io::Result<()> {
        self.owned()?;
        let (told, kernel) = (Arc::clone(&self.told), self.kernel);
        told.let_go.fetch_add(1, Ordering::SeqCst);
        blocking(move || {
            let mut changes = told.changes();
            *changes += 1;
            thaw(kernel)
        })
        .await
    }

    /// The disk of a process that is not the machine's first belongs to somebody else.
    fn owned(&self) -> io::Result<()> {
        match self.machine {
            Machine::Own => Ok(()),
            _ => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "the root disk is not this agent's"))
            }
        }
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn thaw(kernel: Kernel) -> io::Result<()> {
    match (kernel.tell)(FITHAW) {
        // It is not held.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

fn tell(what: libc::c_ulong) -> io::Result<()> {
    let root = File::open("/")?;
    // SAFETY: no wrapper exists for these ioctls, which read and write no memory of ours.
    let result = unsafe { libc::ioctl(root.as_raw_fd(), what as _, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;

    static IS_HELD: AtomicBool = AtomicBool::new(false);
    static BEGUN: AtomicUsize = AtomicUsize::new(0);

    /// As a kernel that waits for writes under way before it holds a file system.
    fn slow_kernel(what: libc::c_ulong) -> io::Result<()> {
        if what == FITHAW {
            let was = IS_HELD.swap(false, Ordering::SeqCst);
            return if was { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) };
        }
        BEGUN.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(200));
        IS_HELD.store(true, Ordering::SeqCst);
        Ok(())
    }

    #[tokio::test]
    async fn a_disk_that_is_let_go_of_while_the_kernel_is_about_to_hold_it_is_not_held() {
        let kernel = Kernel { sync: || {}, tell: slow_kernel };
        let disk = RootDisk { kernel, ..RootDisk::new(Machine::Own) };
        let let_go = async {
            until(|| BEGUN.load(Ordering::SeqCst) > 0).await;
            disk.let_go().await
        };
        let (_, gone) = tokio::join!(disk.hold(), let_go);
        assert!(gone.is_ok());
        assert!(!IS_HELD.load(Ordering::SeqCst));
    }

    static STEP: AtomicUsize = AtomicUsize::new(0);
    static GATE: AtomicUsize = AtomicUsize::new(0);
    static FREEZES: AtomicUsize = AtomicUsize::new(0);

    /// Stands still at each of its steps until the gate lets it by.
    fn step() {
        let at = STEP.fetch_add(1, Ordering::SeqCst);
        while GATE.load(Ordering::SeqCst) <= at {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn stepwise_kernel(what: libc::c_ulong) -> io::Result<()> {
        if what == FITHAW {
            FREEZES.fetch_sub(1, Ordering::SeqCst);
        } else {
            step();
            FREEZES.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_disk_is_not_held_for_somebody_who_is_gone() {
        let kernel = Kernel { sync: step, tell: stepwise_kernel };
        let disk = RootDisk { kernel, ..RootDisk::new(Machine::Own) };
        let gone_at = async |reached: usize| {
            tokio::select! {
                _ = disk.hold() => panic!("it was held"),
                () = until(|| STEP.load(Ordering::SeqCst) == reached) => {}
            }
        };
        // While it is written out, which ends without a hold.
        gone_at(1).await;
        GATE.store(1, Ordering::SeqCst);
        until(|| Arc::strong_count(&disk.told) == 1).await;
        assert_eq!((STEP.load(Ordering::SeqCst), FREEZES.load(Ordering::SeqCst)), (1, 0));
        // While the kernel is about to hold it. Only the thread that lets go after a while is left then.
        GATE.store(2, Ordering::SeqCst);
        gone_at(3).await;
        GATE.store(3, Ordering::SeqCst);
        until(|| Arc::strong_count(&disk.told) == 2).await;
        assert_eq!(FREEZES.load(Ordering::SeqCst), 0);
        GATE.store(usize::MAX, Ordering::SeqCst);
        assert!(disk.hold().await.is_ok());
        assert_eq!(FREEZES.load(Ordering::SeqCst), 1);
    }

    async fn until(is_so: impl Fn() -> bool) {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_not_the_machines_own_touches_no_disk() {
        let disk = RootDisk::new(Machine::Foreign);
        for result in [disk.write_out().await, disk.hold().await, disk.let_go().await] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Unsupported);
        }
    }
}
