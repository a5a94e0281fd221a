//! `GET` and `POST /files`: whole files, streamed, in constant memory.

mod attributes;
mod batch;
mod download;
mod plain;
mod query;
mod range;
mod staged;
mod upload;

use std::io;
use std::path::PathBuf;

use http::{Method, StatusCode};

use crate::http::{ApiError, Request, Response};
use crate::identity::{Identity, Operation, SignedUrl};
use crate::users::User;
use query::Query;

pub async fn handle(
    identity: &Identity,
    token: Option<Vec<u8>>,
    request: Request,
) -> Result<Response, ApiError> {
    let operation = match *request.method() {
        Method::GET | Method::HEAD => Operation::Read,
        Method::POST | Method::PUT => Operation::Write,
        _ => return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")),
    };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let url = SignedUrl {
        operation,
        path: query.path.as_deref().unwrap_or_default(),
        user: query.username.as_deref().unwrap_or_default(),
        signature: query.signature.as_deref(),
        expiration: query.signature_expiration.as_deref(),
    };
    identity.authorize_files(token.as_deref(), &url)?;
    match operation {
        Operation::Read => download::download(identity, &query, request).await,
        Operation::Write => upload::upload(identity, query, request).await,
    }
}

/// Runs what blocks on another thread.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// The answer to an error of the system at `path`.
fn failure(path: &std::path::Path, error: &io::Error) -> ApiError {
    let status = match error.kind() {
        io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StatusCode::FORBIDDEN
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData
        | io::ErrorKind::UnexpectedEof => StatusCode::BAD_REQUEST,
        // A link in a circle, or a socket or a device without a driver.
        _ if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    ApiError::new(status, format!("{}: {error}", path.display()))
}

/// The file that a client's path means.
fn target(identity: &Identity, user: &User, path: &str) -> Result<PathBuf, ApiError> {
    let base = identity.default_workdir();
    let base = base.as_deref().map_or(user.home.as_path(), std::path::Path::new);
    crate::paths::resolve(path, &user.home, base)
        .map_err(|error| ApiError::bad_request(&error.to_string()))
}
