//! Why an identity refuses.

use std::fmt::{Display, Formatter, Result};

#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The caller has not shown that it may.
    Unauthorized(String),
    /// The request cannot be done by anybody.
    Invalid(String),
    /// The request belongs to an earlier generation.
    Stale(String),
    /// A step failed on this machine.
    Failed(String),
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let (Self::Unauthorized(text)
        | Self::Invalid(text)
        | Self::Stale(text)
        | Self::Failed(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Error {}
