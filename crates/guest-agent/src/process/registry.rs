//! All processes: the live ones, and those that ended a moment ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::cgroup::{Group, Groups};
use super::hub::Hub;
use super::live::Process;
use super::messages::Selector;
use super::reaper::Reaper;
use crate::agent::Machine;
use crate::rpc::{Code, ConnectError};

const MAX_LIVE: usize = 1024;
/// How long, and how many, ended processes can still be connected to.
const RETENTION: Duration = Duration::from_secs(60);
const MAX_ENDED: usize = 256;

pub struct Processes {
    machine: Machine,
    reaper: Arc<Reaper>,
    groups: Option<Arc<Groups>>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    live: HashMap<u32, Arc<Process>>,
    /// Oldest first.
    ended: VecDeque<Ended>,
}

/// Little is kept of a process that has ended: its request may have been large.
struct Ended {
    pid: u32,
    tag: Option<String>,
    hub: Arc<Hub>,
    at: Instant,
}

/// What `Connect` needs of a process, live or ended.
pub struct Found {
    pub pid: u32,
    pub hub: Arc<Hub>,
}

impl Processes {
    pub fn new(machine: Machine) -> Self {
        let groups = match machine {
            Machine::Own => Groups::open(),
            Machine::Network | Machine::Foreign => None,
        };
        Self { machine, reaper: Arc::default(), groups, table: Mutex::default() }
    }

    pub fn reaper(&self) -> Arc<Reaper> {
        Arc::clone(&self.reaper)
    }

    pub fn own_machine(&self) -> bool {
        self.machine == Machine::Own
    }

    /// A control group for a new process, where there are any. Without one it starts all the
    /// same, and is killed by process group alone.
    pub fn new_group(&self) -> Option<Group> {
        self.groups.as_ref().and_then(|groups| groups.create().ok())
    }

    pub fn check_room(&self) -> Result<(), ConnectError> {
        if self.table().live.len() < MAX_LIVE {
            return Ok(());
        }
        let message = format!("{MAX_LIVE} processes are running");
        Err(ConnectError::new(Code::ResourceExhausted, message))
    }

    pub fn add(&self, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        self.table().live.insert(process.pid(), Arc::clone(&process));
        process
    }

    /// Moves a process from the live ones to the ended ones. Its output may still be on the way.
    pub fn exited(&self, process: &Arc<Process>) {
        let mut table = self.table();
        // A successor may have the same pid already.
        if table.live.get(&process.pid()).is_some_and(|live| Arc::ptr_eq(live, process)) {
            table.live.remove(&process.pid());
        }
        let at = Instant::now();
        while table.ended.len() >= MAX_ENDED
            || table.ended.front().is_some_and(|oldest| at - oldest.at > RETENTION)
        {
            table.ended.pop_front();
        }
        table.ended.push_back(Ended {
            pid: process.pid(),
            tag: process.tag.clone(),
            hub: Arc::clone(process.hub()),
            at,
        });
    }

    pub fn live(&self, selector: &Selector) -> Result<Arc<Process>, ConnectError> {
        let table = self.table();
        let found = match (selector.pid, &selector.tag) {
            (Some(pid), _) => table.live.get(&pid),
            (None, Some(tag)) => table.live.values().find(|live| live.tag.as_ref() == Some(tag)),
            (None, None) => return Err(unselected()),
        };
        found.cloned().ok_or_else(|| missing(selector))
    }

    /// A live process, or the latest of that pid or tag that has ended within the retention.
    pub fn any(&self, selector: &Selector) -> Result<Found, ConnectError> {
        if let Ok(live) = self.live(selector) {
            return Ok(Found { pid: live.pid(), hub: Arc::clone(live.hub()) });
        }
        let now = Instant::now();
        let table = self.table();
        let chosen = |ended: &&Ended| match (selector.pid, &selector.tag) {
            (Some(pid), _) => ended.pid == pid,
            (None, tag) => tag.is_some() && ended.tag == *tag,
        };
        let recent = table.ended.iter().rev().filter(|ended| now - ended.at <= RETENTION);
        let found = recent.into_iter().find(chosen).ok_or_else(|| missing(selector))?;
        Ok(Found { pid: found.pid, hub: Arc::clone(&found.hub) })
    }

    pub fn all_live(&self) -> Vec<Arc<Process>> {
        let mut all: Vec<_> = self.table().live.values().cloned().collect();
        all.sort_by_key(|process| process.pid());
        all
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn unselected() -> ConnectError {
    ConnectError::invalid("process must be selected by pid or tag")
}

fn missing(selector: &Selector) -> ConnectError {
    let message = match (selector.pid, &selector.tag) {
        (Some(pid), _) => format!("process with pid {pid} not found"),
        (None, Some(tag)) => format!("process with tag {tag} not found"),
        (None, None) => return unselected(),
    };
    ConnectError::new(Code::NotFound, message)
}
