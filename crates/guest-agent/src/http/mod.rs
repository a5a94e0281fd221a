//! The HTTP face: connections, routes, who may call, and how answers and errors look.

mod body;
mod response;
mod router;
mod server;

pub use body::{Body, Incoming, MAX_JSON, read_json, read_limited};
pub use response::{ApiError, Response, empty, json, stream};
pub use server::serve;

pub type Request = hyper::Request<Incoming>;
