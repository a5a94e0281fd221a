//! All processes: the live ones, and those that ended a moment ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::brief::Brief;
use super::cgroup::{Group, Groups};
use super::hub::Hub;
use super::kept::Ledger;
use super::live::Process;
use super::messages::Selector;
use super::reaper::Reaper;
use crate::machine::Machine;
use crate::rpc::{Code, ConnectError};

const MAX_LIVE: usize = 1024;
/// How long, and how many, ended processes can still be connected to.
const RETENTION: Duration = Duration::from_secs(3600);
/// How long one can whose end somebody was told.
const FOLLOWED_RETENTION: Duration = Duration::from_secs(60);
const MAX_ENDED: usize = 256;
/// Tag of a process of the host's own, before the machine is anybody's: nobody is told of it once it has ended.
const WARM_UP: &str = "perch-warm-up";

pub struct Processes {
    machine: Machine,
    reaper: Arc<Reaper>,
    groups: Option<Arc<Groups>>,
    ledger: Ledger,
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
    brief: Arc<Brief>,
    tag: Option<String>,
    hub: Arc<Hub>,
    at: Instant,
}

/// A process as clients are told of it, live or ended.
pub struct Found {
    pub pid: u32,
    pub brief: Arc<Brief>,
    pub hub: Arc<Hub>,
    /// Its input is open.
    pub stdin: bool,
}

impl From<&Arc<Process>> for Found {
    fn from(live: &Arc<Process>) -> Self {
        Self {
            pid: live.pid(),
            brief: Arc::clone(&live.brief),
            hub: Arc::clone(live.hub()),
            stdin: live.input.is_open(),
        }
    }
}

impl From<&Ended> for Found {
    fn from(ended: &Ended) -> Self {
        let (brief, hub) = (Arc::clone(&ended.brief), Arc::clone(&ended.hub));
        Self { pid: ended.pid, brief, hub, stdin: false }
    }
}

impl Ended {
    fn is_over(&self, now: Instant) -> bool {
        let kept = if self.hub.was_followed() { FOLLOWED_RETENTION } else { RETENTION };
        now - self.at > kept
    }
}

impl Processes {
    pub fn new(machine: Machine) -> Self {
        let groups = match machine {
            Machine::Own => Groups::open(),
            Machine::Network | Machine::Foreign => None,
        };
        let (reaper, ledger, table) = Default::default();
        Self { machine, reaper, groups, ledger, table }
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

    /// Of the output that is kept.
    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
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
        if process.tag.as_deref() == Some(WARM_UP) {
            return;
        }
        let at = Instant::now();
        table.ended.retain(|ended| !ended.is_over(at));
        while table.ended.len() >= MAX_ENDED || (self.ledger.is_over() && !table.ended.is_empty()) {
            // A command that somebody has seen goes before one that nobody has.
            let seen = table.ended.iter().position(|ended| ended.hub.was_followed());
            table.ended.remove(seen.unwrap_or(0));
        }
        table.ended.push_back(Ended {
            pid: process.pid(),
            brief: Arc::clone(&process.brief),
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
            return Ok(Found::from(&live));
        }
        let now = Instant::now();
        let table = self.table();
        let chosen = |ended: &&Ended| match (selector.pid, &selector.tag) {
            (Some(pid), _) => ended.pid == pid,
            (None, tag) => tag.is_some() && ended.tag == *tag,
        };
        let mut recent = table.ended.iter().rev().filter(|ended| !ended.is_over(now));
        recent.find(chosen).map(Found::from).ok_or_else(|| missing(selector))
    }

    pub fn all_live(&self) -> Vec<Arc<Process>> {
        let mut all: Vec<_> = self.table().live.values().cloned().collect();
        all.sort_by_key(|process| process.pid());
        all
    }

    /// All live ones, and those that ended and can be connected to.
    pub fn all(&self) -> Vec<Found> {
        let now = Instant::now();
        let table = self.table();
        let ended = table.ended.iter().filter(|ended| !ended.is_over(now)).map(Found::from);
        table.live.values().map(Found::from).chain(ended).collect()
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
