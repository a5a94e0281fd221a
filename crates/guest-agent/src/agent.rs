//! Everything a request can reach.

use std::sync::Arc;

use crate::identity::Identity;
use crate::machine::Machine;
use crate::metrics::CpuSampler;
use crate::process::Processes;
use crate::root_disk::RootDisk;
use crate::watch::Watchers;

pub struct Agent {
    pub identity: Arc<Identity>,
    pub processes: Arc<Processes>,
    pub watchers: Arc<Watchers>,
    pub cpu: CpuSampler,
    pub disk: RootDisk,
}

impl Agent {
    pub fn new(machine: Machine, default_user: Option<String>) -> Self {
        Self {
            identity: Arc::new(Identity::new(machine, default_user)),
            processes: Arc::new(Processes::new(machine)),
            watchers: Arc::default(),
            cpu: CpuSampler::default(),
            disk: RootDisk::new(machine),
        }
    }
}
