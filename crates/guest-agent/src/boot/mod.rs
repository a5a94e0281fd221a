//! Process 1: from the initramfs to a guest that answers.
//!
//! ```text
//! initramfs: proc, sys, dev ─▶ kernel modules ─▶ /dev/vda ─▶ grow and mount ─▶ switch root
//! root disk: pts, shm, run, cgroup ─▶ kernel settings ─▶ names ─▶ network ─▶ serve
//! ```
//!
//! A step that fails is printed and the rest goes on, as long as there is a root to go on with:
//! a guest that answers can be looked into. The console is slow, so only faults and one line at
//! the end are printed.

mod disk;
mod grow;
mod initramfs;
mod modules;
mod network;
mod power;
mod report;
mod root;
mod settings;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use self::report::{report, step};
use crate::agent::Agent;
use crate::machine::Machine;
use crate::{identity, process, serve};

const PORT: u16 = 49983;
const DEFAULT_USER: &str = "user";
/// Pause before serving is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Never returns: the kernel panics when process 1 does.
pub fn init() -> ExitCode {
    if let Err(error) = initramfs::enter_root() {
        report("root disk", error);
        power::off();
    }
    root::prepare();
    settings::apply();
    names();
    network::configure();
    step("entropy", identity::seed_from_hardware());
    loop {
        match std::panic::catch_unwind(run) {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => report("serve", error),
            // The panic's own message is on the console.
            Err(_) => report("serve", "restarting"),
        }
        std::thread::sleep(RETRY);
    }
}

fn run() -> std::io::Result<std::convert::Infallible> {
    serve::runtime()?.block_on(async {
        power::obey_signals()?;
        let agent = Arc::new(Agent::new(Machine::Own, default_user()));
        process::reap(agent.processes.reaper())?;
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        println!("perch-guest: ready");
        serve::serve(agent, listener).await;
        Err(std::io::ErrorKind::BrokenPipe.into())
    })
}

/// Until the host names one: the user that E2B's images have, or root in others.
fn default_user() -> Option<String> {
    let user = crate::users::find(DEFAULT_USER).map(|user| user.name);
    Some(user.unwrap_or_else(|_| "root".into()))
}

fn names() {
    let name = std::fs::read_to_string(identity::HOSTNAME_FILE).unwrap_or_default();
    let name = name.trim();
    let name = if identity::is_hostname(name) { name } else { "perch" };
    step("hostname", identity::set_hostname(name));
}
