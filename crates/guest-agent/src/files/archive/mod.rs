//! `GET /files/archive`: a directory, with all that is below it, as one tar stream. Not in E2B's protocol.

mod format;
mod packer;

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Method, StatusCode};

use super::query::Query;
use super::target::{aside, target};
use crate::http::{ApiError, Request, Response, stream as streamed};
use crate::identity::Identity;
use packer::Packer;

const TYPE: &str = "application/x-tar";

/// Names and links are bytes as they are. A failure on the way breaks the stream, and so the connection: a client must
/// not take a part for the whole.
pub async fn archive(identity: &Identity, request: Request) -> Result<Response, ApiError> {
    if request.method() != Method::GET {
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let user = identity.user(query.username.as_deref())?;
    let path = target(identity, &user, query.path.as_deref().unwrap_or("."))?;
    let packer = aside(move || {
        Packer::open(&path).map_err(|error| ApiError::from_io(path.display(), &error))
    })
    .await?;
    Ok(streamed(StatusCode::OK, TYPE, chunks(packer)))
}

/// No thread is held while the client does not read.
fn chunks(packer: Packer) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::unfold(Some(packer), |packer| async move {
        let mut packer = packer?;
        let step = move || packer.next().map(|chunk| (chunk, packer));
        let stepped = tokio::task::spawn_blocking(step).await;
        match stepped.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok((chunk, _)) if chunk.is_empty() => None,
            Ok((chunk, packer)) => Some((Ok(chunk.into()), Some(packer))),
            Err(error) => Some((Err(error), None)),
        }
    })
}
