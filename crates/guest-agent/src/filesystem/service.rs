//! The methods of `filesystem.Filesystem`. All of them block, so they run aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{EntryInfo, describe};
use super::owner::Owner;
use super::page::{Page, page};
use super::relocate::relocate;
use super::{change, list};
use crate::identity::Identity;
use crate::paths;
use crate::rpc::{Call, Code, ConnectError, Subject};
use crate::users::{Names, User};

#[derive(Deserialize)]
pub struct PathRequest {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
pub struct ListRequest {
    #[serde(default)]
    path: String,
    #[serde(default)]
    depth: u32,
}

#[derive(Deserialize)]
pub struct PageRequest {
    #[serde(default)]
    path: String,
    limit: u32,
    cursor: Option<String>,
}

#[derive(Deserialize)]
pub struct MoveRequest {
    #[serde(default)]
    source: String,
    #[serde(default)]
    destination: String,
}

#[derive(Serialize)]
pub struct EntryAnswer {
    entry: EntryInfo,
}

#[derive(Serialize)]
pub struct ListAnswer {
    entries: Vec<EntryInfo>,
}

#[derive(Serialize)]
pub struct Done {}

pub async fn stat(
    identity: Arc<Identity>,
    call: Call,
    request: PathRequest,
) -> Result<EntryAnswer, ConnectError> {
    let path = resolve(&identity, &identity.user(call.user.as_deref())?, &request.path)?;
    aside(move || answer(&path)).await
}

pub async fn list_dir(
    identity: Arc<Identity>,
    call: Call,
    request: ListRequest,
) -> Result<ListAnswer, ConnectError> {
    let path = resolve(&identity, &identity.user(call.user.as_deref())?, &request.path)?;
    aside(move || Ok(ListAnswer { entries: list::list(&path, request.depth)? })).await
}

pub async fn list_page(
    identity: Arc<Identity>,
    call: Call,
    request: PageRequest,
) -> Result<Page, ConnectError> {
    let path = resolve(&identity, &identity.user(call.user.as_deref())?, &request.path)?;
    aside(move || page(&path, request.limit, request.cursor.as_deref())).await
}

pub async fn make_dir(
    identity: Arc<Identity>,
    call: Call,
    request: PathRequest,
) -> Result<EntryAnswer, ConnectError> {
    let user = identity.user(call.user.as_deref())?;
    let path = resolve(&identity, &user, &request.path)?;
    aside(move || {
        change::make_directory(&path, Owner::new(&user))?;
        answer(&path)
    })
    .await
}

pub async fn rename(
    identity: Arc<Identity>,
    call: Call,
    request: MoveRequest,
) -> Result<EntryAnswer, ConnectError> {
    let user = identity.user(call.user.as_deref())?;
    let source = resolve(&identity, &user, &request.source)?;
    let destination = resolve(&identity, &user, &request.destination)?;
    aside(move || {
        relocate(&source, &destination, Owner::new(&user))?;
        answer(&destination).map_err(|error| error.about(Subject::Destination))
    })
    .await
}

pub async fn remove(
    identity: Arc<Identity>,
    call: Call,
    request: PathRequest,
) -> Result<Done, ConnectError> {
    let path = resolve(&identity, &identity.user(call.user.as_deref())?, &request.path)?;
    aside(move || change::remove(&path).map(|()| Done {})).await
}

/// The file that a client's path means.
pub fn resolve(identity: &Identity, user: &User, path: &str) -> Result<PathBuf, ConnectError> {
    let base = identity.default_workdir();
    let base = base.as_deref().map_or(user.home.as_path(), Path::new);
    // An empty path is the directory that relative ones start at.
    let path = if path.is_empty() { "." } else { path };
    Ok(paths::resolve(path, &user.home, base)?)
}

fn answer(path: &Path) -> Result<EntryAnswer, ConnectError> {
    let entry = describe(path, path, &Names::load());
    Ok(EntryAnswer { entry: entry.map_err(|e| ConnectError::from_io(path.display(), &e))? })
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ConnectError> + Send + 'static,
) -> Result<T, ConnectError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ConnectError::new(Code::Internal, error.to_string())))
}
