//! `GET /files/archive`: a directory, with all that is below it, as one tar stream. Not in E2B's protocol.

mod format;
mod packer;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Method, StatusCode};

use super::query::Query;
use super::target::{aside, target};
use crate::errno::Reason;
use crate::escape;
use crate::http::{ApiError, Request, Response, stream_or_why};
use crate::identity::Identity;
use packer::{Failure, Fault, Packer};

const TYPE: &str = "application/x-tar";

/// Names and links are bytes as they are. A failure on the way says itself in a trailer to a client that takes
/// trailers. To any other it breaks the connection: a client must not take a part for the whole.
pub async fn archive(identity: &Identity, request: Request) -> Result<Response, ApiError> {
    if request.method() != Method::GET {
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let user = identity.user(query.username.as_deref())?;
    let path = target(identity, &user, query.path.as_deref().unwrap_or("."))?;
    let (packer, path) = aside(move || match Packer::open(&path) {
        Ok(packer) => Ok((packer, path)),
        Err(error) => Err(ApiError::from_io(path.display(), &error)),
    })
    .await?;
    Ok(stream_or_why(request.headers(), TYPE, chunks(packer, path)))
}

/// No thread is held while the client does not read.
fn chunks(packer: Packer, path: PathBuf) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    stream::unfold(Some((packer, path)), |state| async move {
        let (mut packer, path) = state?;
        let step = move || packer.next().map(|chunk| (chunk, packer));
        match tokio::task::spawn_blocking(step).await {
            Ok(Ok((chunk, _))) if chunk.is_empty() => None,
            Ok(Ok((chunk, packer))) => Some((Ok(chunk.into()), Some((packer, path)))),
            Ok(Err(failure)) => Some((Err(told(&path, failure)), None)),
            Err(error) => Some((Err(ApiError::internal(error)), None)),
        }
    })
}

fn told(directory: &Path, Failure { path, fault }: Failure) -> ApiError {
    let path = escape::to_text(directory.join(OsStr::from_bytes(&path)));
    let error = match &fault {
        // A place too deep is no fault of the file system: the words that are shown have the path.
        Fault::TooDeep => ApiError::because(Reason::Invalid, format_args!("{fault}: {path}")),
        Fault::System(errno) => ApiError::because(Reason::of(&(*errno).into()), &fault),
        Fault::Shorter | Fault::Longer => ApiError::because(Reason::Io, &fault),
    };
    error.about(path)
}
