//! The Connect protocol, version 1, with its JSON codec. The methods live with their concepts, and
//! their routes in [`crate::routes`].

mod call;
mod envelope;
mod error;
mod incoming;

pub use call::{Call, LeashEnd};
pub use envelope::{HEAD, end_of_stream, event, message, raw_frame};
pub use error::{Code, ConnectError, Subject};
pub use incoming::Messages;

use std::future::{Future, ready};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::{
    ApiError, MAX_JSON, ReadsOn, Request, Response, json, read_limited, stream as streamed,
};

/// The content type of calls with a stream.
const STREAM: &str = "application/connect+json";
/// Longest message of a streaming call, `bytes`.
const MAX_MESSAGE: usize = 4 << 20;
/// Longest body of `SendInput`, whose payload is base64.
const MAX_INPUT: usize = 6 << 20;

/// 404, as Connect wants it for a method that the server does not have.
pub fn unknown(path: &str) -> Response {
    let error = ConnectError::new(Code::Unimplemented, format!("{path} is not implemented"));
    let mut response = error.into_response();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

pub fn answer<A: Serialize>(result: Result<A, ConnectError>) -> Response {
    match result {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(error) => error.into_response(),
    }
}

/// A call with one message each way.
pub async fn unary<Q, A, F>(request: Request, method: impl FnOnce(Call, Q) -> F) -> Response
where
    Q: DeserializeOwned,
    A: Serialize,
    F: Future<Output = Result<A, ConnectError>>,
{
    if !has_type(request.headers(), "application/json") {
        return unsupported_type();
    }
    let limit = if request.uri().path().ends_with("/SendInput") { MAX_INPUT } else { MAX_JSON };
    let call = Call::new(request.headers());
    let deadline = call.timeout;
    let answered = async {
        let body = read_limited(request.into_body(), limit).await.map_err(ConnectError::from)?;
        method(call, parse(&body)?).await
    };
    answer(within(deadline, answered).await)
}

/// A call with one message in and many out. Its errors are in the stream: the status is 200.
pub async fn server_stream<Q, S, F>(request: Request, method: impl FnOnce(Call, Q) -> F) -> Response
where
    Q: DeserializeOwned,
    S: Stream<Item = Bytes> + Send + 'static,
    F: Future<Output = Result<S, ConnectError>>,
{
    if !has_type(request.headers(), STREAM) {
        return unsupported_type();
    }
    let call = Call::new(request.headers());
    let opened = async {
        let limit = MAX_MESSAGE + envelope::HEAD;
        let body = read_limited(request.into_body(), limit).await.map_err(ConnectError::from)?;
        method(call, parse(envelope::only_message(&body, MAX_MESSAGE)?)?).await
    };
    match opened.await {
        Ok(frames) => streamed(StatusCode::OK, STREAM, frames.map(Ok)),
        Err(error) => {
            let frame: io::Result<Bytes> = Ok(end_of_stream(Some(&error)));
            streamed(StatusCode::OK, STREAM, stream::once(async { frame }))
        }
    }
}

/// A call with many messages in and one out. Its errors are in the stream: the status is 200.
pub async fn client_stream<A, F>(request: Request, method: impl FnOnce(Messages) -> F) -> Response
where
    A: Serialize,
    F: Future<Output = Result<A, ConnectError>>,
{
    if !has_type(request.headers(), STREAM) {
        return unsupported_type();
    }
    let deadline = Call::new(request.headers()).timeout;
    let body = request.into_body();
    let rest = body.clone();
    let answered = within(deadline, method(Messages::new(body))).await;
    let frames = match answered {
        Ok(answer) => [message(&answer), end_of_stream(None)].concat().into(),
        Err(error) => end_of_stream(Some(&error)),
    };
    // A client that still sends is told of an error now, and what it sends is taken in after that.
    let draining = stream::once(rest.drain()).filter_map(|()| ready(None));
    let mut response =
        streamed(StatusCode::OK, STREAM, stream::once(ready(Ok(frames))).chain(draining));
    response.extensions_mut().insert(ReadsOn);
    response
}

async fn within<A>(
    deadline: Option<Duration>,
    answered: impl Future<Output = Result<A, ConnectError>>,
) -> Result<A, ConnectError> {
    match deadline {
        None => answered.await,
        Some(limit) => tokio::time::timeout(limit, answered)
            .await
            .unwrap_or_else(|_| Err(ConnectError::deadline_exceeded())),
    }
}

fn parse<Q: DeserializeOwned>(text: &[u8]) -> Result<Q, ConnectError> {
    let text = if text.is_empty() { b"{}" } else { text };
    serde_json::from_slice(text).map_err(|error| ConnectError::invalid(error.to_string()))
}

/// Whether the content type is `expected`, whatever its parameters.
fn has_type(headers: &HeaderMap, expected: &str) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split(';').next()).map(str::trim) == Some(expected)
}

fn unsupported_type() -> Response {
    let message = "content type must be application/json or application/connect+json";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response()
}
