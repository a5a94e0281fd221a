//! `POST /init`: checked as a whole, then done step by step, then believed.
//!
//! Nothing changes when the request is wrong. When a step fails the answer is an error and the
//! earlier token, environment and generation stay: a host that sees no confirmation must not
//! call the sandbox running. Connections of an earlier life are the exception: when they cannot be
//! reset, the answer only lacks that point, and the next `/init` tries again.

use std::io;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};

use super::connections::Scope;
use super::token::Token;
use super::{
    Connections, Ends, Environment, Error, Identity, State, clock, connections, entropy, names,
};
use crate::machine::Machine;
use crate::users;

const MAX_TOKEN: usize = 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitRequest {
    generation: u64,
    /// RFC 3339
    timestamp: String,
    /// Base64 of 32 to 512 bytes.
    entropy: String,
    sandbox_id: String,
    template_id: String,
    hostname: String,
    machine_id: String,
    access_token: String,
    // A value that is absent or null stays as an earlier life had it.
    env_vars: Option<Environment>,
    default_user: Option<String>,
    /// Empty: the user's home.
    default_workdir: Option<String>,
}

impl InitRequest {
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// The steps that were really done.
#[derive(Serialize)]
pub struct Confirmation {
    generation: u64,
    confirmed: Vec<&'static str>,
}

/// The request's demands on the machine, checked.
struct MachineChange {
    time: Timespec,
    seed: Vec<u8>,
    hostname: String,
    machine_id: String,
}

impl Identity {
    /// `caller` is the connection that the request came on; it stays.
    pub async fn init(
        &self,
        request: InitRequest,
        caller: Option<Ends>,
    ) -> Result<Confirmation, Error> {
        let mut connections = self.changing.lock().await;
        let before = *self.generation.borrow();
        if request.generation < before {
            let message = format!("generation {} is over, it is {before}", request.generation);
            return Err(Error::Stale(message));
        }
        let (change, state) = self.check(&request)?;
        let mut confirmed = Vec::new();
        // On this thread, here and below: a guest that has just been restored has nothing else to
        // do, and another thread costs it more than the work.
        if self.machine == Machine::Own {
            confirmed = change.apply()?;
        }
        *self.state() = state;
        // A guest that has put something else there does without, and is not kept from running.
        if self.machine == Machine::Own
            && let Err(error) = names::set_markers(Path::new(names::MARKERS), &self.markers())
        {
            eprintln!("perch-guest: {}: {error}", names::MARKERS);
        }
        confirmed.extend(["token", "environment", "user"]);
        // Only when it moves: it ends the agent's own connections of earlier generations.
        let moved = self.generation.send_if_modified(|generation| {
            std::mem::replace(generation, request.generation) != request.generation
        });
        if moved && before != 0 {
            *connections = Connections::Stale;
        }
        // After the generation: whoever loses the agent by this has not left by choice.
        if self.machine.owns_network() {
            if *connections == Connections::Stale && self.reset(caller) {
                *connections = Connections::Current;
            }
            if *connections == Connections::Current {
                confirmed.push("connections");
            }
        }
        Ok(Confirmation { generation: request.generation, confirmed })
    }

    fn check(&self, request: &InitRequest) -> Result<(MachineChange, State), Error> {
        let bad = |message: &str| Error::Invalid(message.to_owned());
        let time = clock::parse(&request.timestamp).ok_or(bad("timestamp is not RFC 3339"))?;
        let seed = STANDARD.decode(&request.entropy).map_err(|_| bad("entropy is not base64"))?;
        if !(entropy::MIN_BYTES..=entropy::MAX_BYTES).contains(&seed.len()) {
            return Err(bad("entropy must be 32 to 512 bytes"));
        }
        if !names::is_hostname(&request.hostname) {
            return Err(bad("hostname is not valid"));
        }
        if !names::is_machine_id(&request.machine_id) {
            return Err(bad("machineId must be 32 hexadecimal digits"));
        }
        if request.access_token.is_empty() || request.access_token.len() > MAX_TOKEN {
            return Err(bad("accessToken must be 1 to 1024 bytes"));
        }
        let named = |(name, value): (&String, &String)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        };
        if !request.env_vars.iter().flatten().all(named) {
            return Err(bad("envVars has a name or value that cannot be one"));
        }
        let workdir = match &request.default_workdir {
            Some(path) => Some(path.clone()).filter(|path| !path.is_empty()),
            None => self.default_workdir(),
        };
        if workdir.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains('\0')) {
            return Err(bad("defaultWorkdir must be an absolute path"));
        }
        let default_user = match &request.default_user {
            Some(name) => users::find(name).map_err(|error| bad(&error.to_string()))?.name,
            None => self.state().default_user.clone(),
        };
        let change = MachineChange {
            time,
            seed,
            hostname: request.hostname.clone(),
            machine_id: request.machine_id.clone(),
        };
        let state = State {
            token: Some(Token::new(request.access_token.clone())),
            environment: request.env_vars.clone().unwrap_or_else(|| self.environment()),
            default_user,
            default_workdir: workdir,
            sandbox_id: request.sandbox_id.clone(),
            template_id: request.template_id.clone(),
        };
        Ok((change, state))
    }

    /// Whether it was done. Why not is for the console: the answer has no room for it.
    fn reset(&self, caller: Option<Ends>) -> bool {
        let scope = match self.machine {
            Machine::Own => Scope::Machine,
            _ => Scope::Network,
        };
        match connections::reset(scope, caller) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("perch-guest: connections: {error}");
                false
            }
        }
    }
}

impl MachineChange {
    fn apply(self) -> Result<Vec<&'static str>, Error> {
        let mut confirmed = Vec::new();
        let mut step = |name: &'static str, result: io::Result<()>| match result {
            Ok(()) => {
                confirmed.push(name);
                Ok(())
            }
            Err(error) => Err(Error::Failed(format!("{name}: {error}"))),
        };
        step("clock", clock::set(self.time))?;
        step("entropy", entropy::add(&self.seed))?;
        step("hostname", names::set_hostname(&self.hostname))?;
        step("machineId", names::set_machine_id(&self.machine_id))?;
        Ok(confirmed)
    }
}
