//! Errors of the Connect calls, and the HTTP status of each code.

use std::io;

use http::StatusCode;
use serde::Serialize;

use crate::errno::Reason;
use crate::http::{ApiError, Response, json};
use crate::paths::BadPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    ResourceExhausted,
    DeadlineExceeded,
    Unimplemented,
    Internal,
}

impl Code {
    /// The table of the Connect protocol.
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists => StatusCode::CONFLICT,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectError {
    pub code: Code,
    pub message: String,
    /// Of a file call, why. Not in E2B's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Of a call about two paths, the one that the error is about. Not in E2B's protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Source,
    Destination,
}

impl ConnectError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reason: None, subject: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub fn deadline_exceeded() -> Self {
        Self::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// An error of the system at `what`, with the code that fits it.
    pub fn from_io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        Self::because(Reason::of(error), format!("{what}: {error}"))
    }

    /// With the code that clients of E2B know best for it.
    pub fn because(reason: Reason, message: impl Into<String>) -> Self {
        let code = match reason {
            Reason::Missing => Code::NotFound,
            Reason::Denied | Reason::ReadOnly => Code::PermissionDenied,
            Reason::Exists => Code::AlreadyExists,
            Reason::NotDirectory
            | Reason::NotFile
            | Reason::NotEmpty
            | Reason::Invalid
            | Reason::Encoding => Code::InvalidArgument,
            Reason::Busy | Reason::Unsupported => Code::FailedPrecondition,
            Reason::Full | Reason::Exhausted => Code::ResourceExhausted,
            Reason::Io => Code::Internal,
        };
        Self { code, message: message.into(), reason: Some(reason), subject: None }
    }

    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        Self { subject: Some(subject), ..self }
    }

    pub fn into_response(self) -> Response {
        json(self.code.status(), &self)
    }
}

impl From<ApiError> for ConnectError {
    fn from(error: ApiError) -> Self {
        let code = match error.status {
            StatusCode::PAYLOAD_TOO_LARGE => Code::ResourceExhausted,
            StatusCode::BAD_REQUEST => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Self::new(code, error.message)
    }
}

impl From<BadPath> for ConnectError {
    fn from(error: BadPath) -> Self {
        Self::invalid(error.to_string())
    }
}
