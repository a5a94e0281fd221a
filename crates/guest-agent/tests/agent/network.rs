//! A guest's network and its host's, as two namespaces that a pair of interfaces connects.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use rustix::thread::{
    CapabilitySet, LinkNameSpaceType, UnshareFlags, move_into_link_name_space,
    remove_capability_from_bounding_set,
};

use crate::support::{Agent, is_root, program};

pub const HOST: &str = "10.77.0.1";
/// On the host's network, but nobody answers there.
pub const SILENT: &str = "10.77.0.9";
const GUEST: &str = "10.77.0.2";

/// Runs a test on the host's side. Skips it where namespaces cannot be made.
pub fn on_host(test: impl AsyncFnOnce() + Send + 'static) {
    // A thread of its own: the namespace must not stay with the thread of later tests.
    let host = thread::spawn(move || {
        if !is_root() || enter_new_network().is_err() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test());
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// An agent in a namespace of its own, with a way to the host's.
pub fn guest(may_reset: bool) -> Agent {
    let mut command = program();
    command.args(["serve", "--own-network", "--listen", "0.0.0.0:0"]);
    let prepare = move || {
        if !may_reset {
            remove_capability_from_bounding_set(CapabilitySet::NET_ADMIN)?;
        }
        enter_new_network()
    };
    // SAFETY: the closure only makes system calls, which is what may be done between fork and exec.
    let mut agent = Agent::spawn(unsafe { command.pre_exec(prepare) });
    let guest = agent.pid().to_string();
    ip(&[
        "link",
        "add",
        "perch-host",
        "type",
        "veth",
        "peer",
        "name",
        "perch-guest",
        "netns",
        &guest,
    ]);
    ip(&["addr", "add", &format!("{HOST}/24"), "dev", "perch-host"]);
    ip(&["link", "set", "perch-host", "up"]);
    inside(&agent, || {
        ip(&["addr", "add", &format!("{GUEST}/24"), "dev", "perch-guest"]);
        ip(&["link", "set", "lo", "up"]);
        ip(&["link", "set", "perch-guest", "up"]);
        ip(&["neigh", "add", SILENT, "lladdr", "02:00:00:00:00:09", "dev", "perch-guest"]);
    });
    agent.address = agent.address.replace("0.0.0.0", GUEST);
    agent
}

/// A program in the guest. Sockets stay in the namespace that they were made in.
pub fn inside<T: Send>(agent: &Agent, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/proc/{}/ns/net", agent.pid())).unwrap();
    thread::scope(|scope| {
        let program = scope.spawn(move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
            work()
        });
        program.join().unwrap()
    })
}

fn enter_new_network() -> std::io::Result<()> {
    // SAFETY: only the calling thread moves, and only to another network. It keeps sharing
    // descriptors and memory with the process, whatever `unshare` can do with other flags.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}
