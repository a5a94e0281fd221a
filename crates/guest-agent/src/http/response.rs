//! Answers: JSON, empty, streamed, and errors as `{"code": status, "message": text}`.

use std::fmt::Display;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use serde::Serialize;

use crate::errno::Reason;

/// Body of an answer.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

pub type Response = hyper::Response<Body>;

/// Of a response whose body takes in the rest of the request's: nobody else needs to, before it is sent.
#[derive(Clone)]
pub struct ReadsOn;

pub fn empty(status: StatusCode) -> Response {
    with_status(status, Empty::new().map_err(|never| match never {}).boxed_unsync())
}

pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
            typed(status, "application/json", body.boxed_unsync())
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// An answer whose connection is cut when the stream yields an error.
pub fn stream<S>(status: StatusCode, content_type: &'static str, chunks: S) -> Response
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data)));
    typed(status, content_type, body.boxed_unsync())
}

fn typed(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = with_status(status, body);
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn with_status(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// An error of the plain HTTP calls. The Connect calls have their own form.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// Of a file call, why. Not in E2B's protocol.
    pub reason: Option<Reason>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Display) -> Self {
        Self { status, message: message.to_string(), reason: None }
    }

    pub fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub fn internal(error: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }

    /// An error of the system at `what`, with the status that fits it.
    pub fn from_io(what: impl Display, error: &io::Error) -> Self {
        Self::because(Reason::of(error), format_args!("{what}: {error}"))
    }

    pub fn because(reason: Reason, message: impl Display) -> Self {
        let status = match reason {
            Reason::Missing => StatusCode::NOT_FOUND,
            Reason::Denied | Reason::ReadOnly => StatusCode::FORBIDDEN,
            Reason::Exists | Reason::NotEmpty | Reason::Busy => StatusCode::CONFLICT,
            Reason::NotDirectory
            | Reason::NotFile
            | Reason::Invalid
            | Reason::Encoding
            | Reason::Unsupported => StatusCode::BAD_REQUEST,
            Reason::Full => StatusCode::INSUFFICIENT_STORAGE,
            Reason::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
            Reason::Io => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: message.to_string(), reason: Some(reason) }
    }

    pub fn into_response(self) -> Response {
        let (code, message) = (self.status.as_u16(), self.message.as_str());
        json(self.status, &ErrorBody { code, message, reason: self.reason })
    }
}
