//! The `serve` mode, and the runtime that both modes share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::agent::Agent;
use crate::machine::Machine;
use crate::{http, process, routes};

/// Threads for calls that block (files, directories). Bounded: each one costs memory.
const BLOCKING_THREADS: usize = 32;

/// Address space of a blocking thread. Deep directory trees are removed recursively; the pages
/// are only touched when that happens.
const BLOCKING_STACK: usize = 16 << 20;

/// The arguments of `perch-guest serve`.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    listen: SocketAddr,
    default_user: Option<String>,
    machine: Machine,
}

impl Options {
    /// `None` when the arguments do not ask for the `serve` mode.
    pub fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let mut arguments = arguments.iter();
        if arguments.next().map(String::as_str) != Some("serve") {
            return Ok(None);
        }
        let (mut listen, mut default_user, mut machine) = (None, None, Machine::Foreign);
        while let Some(option) = arguments.next() {
            if option == "--own-network" {
                machine = Machine::Network;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{option} needs a value"))?;
            match option.as_str() {
                "--listen" => {
                    listen = Some(value.parse().map_err(|_| format!("bad address '{value}'"))?);
                }
                "--default-user" => default_user = Some(value.clone()),
                _ => return Err(format!("unknown option '{option}'")),
            }
        }
        let listen = listen.ok_or("--listen is missing")?;
        Ok(Some(Self { listen, default_user, machine }))
    }
}

/// Serves as an ordinary process until it is killed.
pub fn run(options: Options) -> io::Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind(options.listen).await?;
        let agent = Arc::new(Agent::new(options.machine, options.default_user));
        process::reap(agent.processes.reaper())?;
        println!("listening {}", listener.local_addr()?);
        serve(agent, listener).await;
        Ok(())
    })
}

/// Serves for ever.
pub async fn serve(agent: Arc<Agent>, listener: TcpListener) {
    let generation = agent.identity.generation();
    http::serve(listener, generation, move |request| routes::route(Arc::clone(&agent), request))
        .await;
}

/// One thread for all of the protocol: process 1 forks, and the reaper must not race it.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        Options::parse(&words)
    }

    #[test]
    fn reads_the_address_and_the_default_user() {
        let options = parse("serve --listen 127.0.0.1:0 --default-user bob").unwrap().unwrap();
        assert_eq!(options.listen, "127.0.0.1:0".parse().unwrap());
        assert_eq!(options.default_user.as_deref(), Some("bob"));
        assert_eq!(options.machine, Machine::Foreign);
        let options = parse("serve --own-network --listen 127.0.0.1:0").unwrap().unwrap();
        assert_eq!(options.machine, Machine::Network);
    }

    #[test]
    fn is_not_meant_when_the_first_word_is_not_serve() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("quiet --listen x"), Ok(None));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(parse("serve").is_err());
        assert!(parse("serve --listen nowhere").is_err());
        assert!(parse("serve --listen").is_err());
        assert!(parse("serve --color always").is_err());
    }
}
