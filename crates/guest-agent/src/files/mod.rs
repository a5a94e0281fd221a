//! `GET` and `POST /files`: whole files, streamed, in constant memory. `GET /files/archive`: directories.

mod archive;
mod attributes;
mod batch;
mod download;
mod plain;
mod query;
mod range;
mod staged;
mod target;
mod underway;
mod upload;

pub use archive::archive;

use http::{Method, StatusCode};

use crate::http::{ApiError, Request, Response};
use crate::identity::{Identity, Operation, SignedUrl};
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
