//! Refusals of an identity, in the form of each kind of call.

use http::StatusCode;

use crate::http::ApiError;
use crate::identity::Error;
use crate::rpc::{Code, ConnectError};
use crate::users::UnknownUser;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Stale(_) => StatusCode::CONFLICT,
            Error::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

impl From<UnknownUser> for ApiError {
    fn from(error: UnknownUser) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, error)
    }
}

impl From<UnknownUser> for ConnectError {
    fn from(error: UnknownUser) -> Self {
        Self::new(Code::Unauthenticated, error.to_string())
    }
}
