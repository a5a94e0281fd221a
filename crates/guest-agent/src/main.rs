//! `perch-guest`: init and guest agent of a Perch sandbox, in one static binary.
//!
//! As process 1 of a guest it brings the machine up ([`boot`]) and then serves E2B's envd
//! protocol. As `perch-guest serve` it is the same server in an ordinary process, which owns
//! nothing of the machine: it leaves clock, entropy, hostname and machine id alone. With
//! `--own-network` it owns its network namespace, and resets connections there.
//!
//! Everything runs on one thread (with a small pool for calls that block), so that an idle guest
//! costs few pages in a snapshot.

mod agent;
mod boot;
mod descriptor;
mod errno;
mod escape;
mod files;
mod filesystem;
mod http;
mod identity;
mod machine;
mod metrics;
mod paths;
mod process;
mod refusal;
mod root_disk;
mod routes;
mod rpc;
mod serve;
mod users;
mod watch;

use std::process::ExitCode;

const USAGE: &str =
    "usage: perch-guest serve --listen ADDRESS:PORT [--default-user NAME] [--own-network]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match serve::Options::parse(&arguments) {
        Ok(Some(options)) => match serve::run(options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("perch-guest: {error}");
                ExitCode::FAILURE
            }
        },
        // The kernel hands process 1 whatever arguments it did not understand itself.
        _ if std::process::id() == 1 => boot::init(),
        Ok(None) => {
            eprintln!("{USAGE}");
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("perch-guest: {problem}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}
