//! The messages of a call that has many, as they come.

use bytes::BytesMut;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::envelope::next_message;
use super::{ConnectError, MAX_MESSAGE, parse};
use crate::http::Incoming;

pub struct Messages {
    body: Incoming,
    /// The part of a message that has come.
    bytes: BytesMut,
}

impl Messages {
    pub fn new(body: Incoming) -> Self {
        Self { body, bytes: BytesMut::new() }
    }

    /// `None` at the end of the body.
    pub async fn next<Q: DeserializeOwned>(&mut self) -> Result<Option<Q>, ConnectError> {
        loop {
            if let Some(message) = next_message(&mut self.bytes, MAX_MESSAGE)? {
                return parse(&message).map(Some);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.bytes.extend(frame.into_data()),
                Some(Err(_)) => return Err(ConnectError::invalid("the body broke off")),
                None if self.bytes.is_empty() => return Ok(None),
                None => return Err(ConnectError::invalid("the last message is not whole")),
            }
        }
    }
}
