//! Bodies of requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::ApiError;

/// Longest JSON body of a call with one answer, `bytes`.
pub const MAX_JSON: usize = 1 << 20;

/// How much of an unread body is taken in before an answer, and for how long.
const MAX_DRAINED: usize = 64 << 20;
const DRAINING: Duration = Duration::from_secs(10);

pub type Request = hyper::Request<Incoming>;

/// The body of a request, of which the server keeps a second handle.
///
/// An answer that goes out while the client is still sending is lost when the connection is
/// closed on unread bytes. So whatever a handler leaves unread is read and dropped first.
#[derive(Clone)]
pub struct Incoming(Arc<Mutex<hyper::body::Incoming>>);

impl Incoming {
    pub fn new(body: hyper::body::Incoming) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// Reads what is left, within bounds.
    pub async fn drain(mut self) {
        let draining = async {
            let mut left = MAX_DRAINED;
            while let Some(Ok(frame)) = self.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // The client loses the unread rest by its own doing.
        let _ = tokio::time::timeout(DRAINING, draining).await;
    }

    fn lock(&self) -> MutexGuard<'_, hyper::body::Incoming> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

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
