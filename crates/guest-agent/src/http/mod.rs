//! HTTP: connections, bodies, and how answers and errors look.

mod body;
mod connection;
mod response;
mod server;

pub use body::{Incoming, MAX_JSON, Request, read_json, read_limited};
pub use connection::Connection;
pub use response::{ApiError, ReadsOn, Response, empty, json, stream, stream_or_why};
pub use server::serve;
