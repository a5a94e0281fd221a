//! Reads its configuration from standard input, waits for the machine, serves it until it ends.

use std::process::ExitCode;

use perch_pager::{
    Error, Result,
    config::Config,
    confinement::{Stage, confine},
    handoff,
    metrics::State,
    server::Server,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perch-pager: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    keep_memory_private()?;
    let mut parts = Config::read(std::io::stdin().lock())?.open()?;
    // Nothing is opened from here on.
    confine(Stage::HandOff)?;
    parts.metrics.set_state(State::Waiting);
    let machine = handoff::take(&parts.socket, parts.chain.pages(), &parts.metrics)?;
    // Nobody else is let in.
    drop(parts.socket);
    confine(Stage::Serving)?;
    parts.metrics.set_state(State::Serving);
    let server = Server::new(machine, &mut parts.chain, &parts.metrics, parts.options);
    let ended = server.run();
    parts.metrics.set_state(State::Ended);
    ended
}

/// The monitor has the same user, and must not look into this process: it holds the memory of a
/// guest, also after the monitor was broken into.
fn keep_memory_private() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Error::of("cannot become non-dumpable", error))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)
        .map_err(|error| Error::of("cannot turn core dumps off", error))
}
