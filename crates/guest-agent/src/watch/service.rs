//! The methods of `filesystem.Filesystem` about watches.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::spawn_blocking;

use super::messages::{Created, Done, Events, WatchRequest, WatcherRequest};
use super::polled::Watchers;
use super::stream::told;
use super::watched::Watch;
use super::watcher::Watcher;
use crate::filesystem::resolve;
use crate::identity::Identity;
use crate::rpc::{Call, Code, ConnectError};

pub async fn watch_dir(
    watchers: Arc<Watchers>,
    identity: Arc<Identity>,
    call: Call,
    request: WatchRequest,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, ConnectError> {
    let watcher = open(&watchers, &identity, &call, request).await?;
    Ok(told(watcher, &call))
}

pub async fn create_watcher(
    watchers: Arc<Watchers>,
    identity: Arc<Identity>,
    call: Call,
    request: WatchRequest,
) -> Result<Created, ConnectError> {
    let watcher = open(&watchers, &identity, &call, request).await?;
    Ok(Created { watcher_id: watchers.add(watcher) })
}

pub async fn get_events(
    watchers: Arc<Watchers>,
    request: WatcherRequest,
) -> Result<Events, ConnectError> {
    Ok(Events { events: watchers.poll(&request.watcher_id).await? })
}

pub async fn remove_watcher(
    watchers: Arc<Watchers>,
    request: WatcherRequest,
) -> Result<Done, ConnectError> {
    watchers.remove(&request.watcher_id)?;
    Ok(Done {})
}

async fn open(
    watchers: &Watchers,
    identity: &Identity,
    call: &Call,
    request: WatchRequest,
) -> Result<Watcher, ConnectError> {
    let WatchRequest { path, recursive, include_entry, allow_network_mounts } = request;
    let path = resolve(identity, &identity.user(call.user.as_deref())?, &path)?;
    let (slot, budget) = (watchers.slot()?, watchers.budget());
    let opened = spawn_blocking(move || {
        let watch = Watch::open(path, recursive, allow_network_mounts, budget)?;
        Ok(Watcher::new(watch, include_entry, slot))
    });
    opened.await.unwrap_or_else(|error| Err(ConnectError::new(Code::Internal, error.to_string())))
}
