//! Who this sandbox is: what `POST /init` says, and what it changes.
//!
//! A guest is restored from a snapshot that many guests share, so until the host has named it,
//! set its clock and given it entropy of its own, it must not serve anybody. Each restore starts
//! a new *generation*; connections from an earlier one lead to a peer that no longer exists, and
//! are dropped when the generation moves.

mod clock;
mod connections;
mod entropy;
mod error;
mod init;
mod names;
mod signature;
mod token;

pub use connections::Ends;
pub use entropy::seed_from_hardware;
pub use error::Error;
pub use init::InitRequest;
pub use names::{HOSTNAME_FILE, is_hostname, set_hostname, write_if_changed};
pub use signature::{Operation, SignedUrl};

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::machine::Machine;
use crate::users::{self, UnknownUser, User};
use token::Token;

pub type Environment = BTreeMap<String, String>;

pub struct Identity {
    machine: Machine,
    state: Mutex<State>,
    /// Held over all steps of one `/init`.
    changing: tokio::sync::Mutex<Connections>,
    generation: watch::Sender<u64>,
}

/// Whether connections of an earlier generation may still be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connections {
    Current,
    Stale,
}

/// The state that the `/init`s up to now left.
#[derive(Default)]
struct State {
    token: Option<Token>,
    environment: Environment,
    default_user: String,
    default_workdir: Option<String>,
    sandbox_id: String,
    template_id: String,
}

impl Identity {
    pub fn new(machine: Machine, default_user: Option<String>) -> Self {
        let default_user = default_user.unwrap_or_else(users::current);
        let state = State { default_user, ..State::default() };
        Self {
            machine,
            state: Mutex::new(state),
            changing: tokio::sync::Mutex::new(Connections::Current),
            generation: watch::Sender::new(0),
        }
    }

    /// The generation, to watch; 0 before the first `/init`.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Refuses a request whose `X-Access-Token` is not this sandbox's, and any before `/init`.
    pub fn authorize(&self, presented: Option<&[u8]>) -> Result<(), Error> {
        match (&self.state().token, presented) {
            (None, _) => Err(unauthorized("the sandbox is not initialized")),
            (Some(_), None) => Err(unauthorized("missing access token")),
            (Some(token), Some(presented)) if token.matches(presented) => Ok(()),
            (Some(_), Some(_)) => Err(unauthorized("invalid access token")),
        }
    }

    /// As [`Self::authorize`], but the first `/init` needs no token: there is none yet.
    pub fn authorize_init(&self, presented: Option<&[u8]>) -> Result<(), Error> {
        if self.state().token.is_none() {
            return Ok(());
        }
        self.authorize(presented)
    }

    /// As [`Self::authorize`], for `/files`: a signed URL does instead of the header.
    pub fn authorize_files(
        &self,
        presented: Option<&[u8]>,
        url: &SignedUrl<'_>,
    ) -> Result<(), Error> {
        if presented.is_some() {
            return self.authorize(presented);
        }
        match &self.state().token {
            None => Err(unauthorized("the sandbox is not initialized")),
            Some(token) => url.verify(token).map_err(unauthorized),
        }
    }

    /// The named user, or the default one.
    pub fn user(&self, name: Option<&str>) -> Result<User, UnknownUser> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) => users::find(name),
            None => users::find(&self.state().default_user.clone()),
        }
    }

    /// The sandbox's environment variables (`GET /envs`).
    pub fn environment(&self) -> Environment {
        self.state().environment.clone()
    }

    /// The variables that say which sandbox this is.
    pub fn markers(&self) -> Environment {
        let state = self.state();
        let mut markers = Environment::new();
        markers.insert("E2B_SANDBOX".into(), "true".into());
        markers.insert("E2B_SANDBOX_ID".into(), state.sandbox_id.clone());
        markers.insert("E2B_TEMPLATE_ID".into(), state.template_id.clone());
        markers
    }

    /// The directory that relative paths start at, when it is not the user's home.
    pub fn default_workdir(&self) -> Option<String> {
        self.state().default_workdir.clone()
    }

    /// A panic elsewhere leaves the state whole: every change is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn unauthorized(message: &str) -> Error {
    Error::Unauthorized(message.to_owned())
}
