//! Answers: JSON, empty, streamed, and errors as `{"code": status, "message": text}`.

use std::fmt::Display;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
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

/// The trailer that says why a stream ends before its end: the body of an error, as an answer has it. Not in E2B's
/// protocol.
const FAILURE: HeaderName = HeaderName::from_static("perch-error");

/// An answer whose stream says why it breaks off: in a trailer, to a client that takes trailers. The connection of
/// any other is cut.
pub fn stream_or_why<S>(request: &HeaderMap, content_type: &'static str, chunks: S) -> Response
where
    S: Stream<Item = Result<Bytes, ApiError>> + Send + 'static,
{
    let told = request.get(header::TE).is_some_and(|value| value == "trailers");
    let frames = chunks.map(move |chunk| match chunk {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(error) if told => error.into_trailers().map(Frame::trailers),
        Err(error) => Err(io::Error::other(error.message)),
    });
    let mut response = typed(StatusCode::OK, content_type, StreamBody::new(frames).boxed_unsync());
    if told {
        response.headers_mut().insert(header::TRAILER, FAILURE.into());
    }
    response
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
    /// What of a tree it is about, as text.
    path: Option<String>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

/// Of a text in a trailer, letters. Each has at most twelve bytes there, and a client takes 16 KiB of trailers.
const LONGEST_TOLD: usize = 500;

impl ApiError {
    pub fn new(status: StatusCode, message: impl Display) -> Self {
        Self { status, message: message.to_string(), reason: None, path: None }
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
        Self { status, message: message.to_string(), reason: Some(reason), path: None }
    }

    pub fn about(self, path: String) -> Self {
        Self { path: Some(path), ..self }
    }

    pub fn into_response(self) -> Response {
        json(self.status, &self.body())
    }

    fn into_trailers(mut self) -> io::Result<HeaderMap> {
        for text in [Some(&mut self.message), self.path.as_mut()].into_iter().flatten() {
            if let Some((end, _)) = text.char_indices().nth(LONGEST_TOLD) {
                text.replace_range(end.., "…");
            }
        }
        let value = HeaderValue::try_from(ascii(&serde_json::to_string(&self.body())?));
        Ok(HeaderMap::from_iter([(FAILURE, value.map_err(io::Error::other)?)]))
    }

    fn body(&self) -> ErrorBody<'_> {
        let (code, message) = (self.status.as_u16(), self.message.as_str());
        ErrorBody { code, message, reason: self.reason, path: self.path.as_deref() }
    }
}

/// JSON of the letters that a header may have. Those that it may not have stand in strings.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            ' '..='~' => text.push(letter),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_an_error_says_it_has_room_in_a_trailer(message: String, path in ".{0,600}") {
            let error = ApiError::because(Reason::Io, &message).about(path.clone());
            let trailers = error.into_trailers().unwrap();
            let value = trailers[FAILURE].as_bytes();
            prop_assert!(value.len() < 14 << 10);
            let told: serde_json::Value = serde_json::from_slice(value).unwrap();
            let cut = |text: &str| match text.char_indices().nth(LONGEST_TOLD) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text.to_owned(),
            };
            prop_assert_eq!(told["message"].as_str().unwrap(), cut(&message));
            prop_assert_eq!(told["path"].as_str().unwrap(), cut(&path));
            prop_assert_eq!(told["reason"].as_str().unwrap(), "io");
        }
    }
}
