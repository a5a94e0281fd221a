//! Request bodies that are small enough to hold.

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ApiError;

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Longest JSON body of a call with one answer, `bytes`.
pub const MAX_JSON: usize = 1 << 20;

/// The whole body, or an error when it is longer than `limit` bytes or breaks off.
pub async fn read_limited(body: Incoming, limit: usize) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::too_large(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
        Err(error) => Err(ApiError::bad_request(&error.to_string())),
    }
}

pub async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<T, ApiError> {
    let bytes = read_limited(body, MAX_JSON).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::bad_request(&error.to_string()))
}
