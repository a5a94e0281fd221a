//! Connections: how many, how long, and to which generation they belong.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::router::route;
use super::{ApiError, Incoming, Request, Response};
use crate::agent::Agent;
use crate::identity::Ends;

const MAX_CONNECTIONS: usize = 512;
/// Longest head of a request, and what a connection's read buffer grows to while a body comes in,
/// `bytes`. Each read of a body takes the same long way to its handler, however little it has got.
const MAX_BUFFER: usize = 256 << 10;
const MAX_HEADERS: usize = 100;
/// How long a connection may wait for its next request. Longer than a client keeps one idle, so
/// that the client closes first and no request meets a closing connection.
const IDLE: Duration = Duration::from_secs(300);
/// Pause after a failed accept: the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves for ever.
pub async fn serve(agent: Arc<Agent>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = Arc::clone(&agent);
                tokio::spawn(async move {
                    connection(agent, stream).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// A connection, and the generation that it belongs to.
#[derive(Clone)]
pub struct Connection {
    generation: Arc<AtomicU64>,
    ends: Option<Ends>,
}

impl Connection {
    pub fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    /// `None` when the client was gone before it could be asked.
    pub fn ends(&self) -> Option<Ends> {
        self.ends
    }

    /// Moves the connection to `generation`, so that the change to it does not end the connection.
    pub fn join(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }
}

async fn connection(agent: Arc<Agent>, stream: TcpStream) {
    // Without it, small frames of a stream wait for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    let generation = agent.identity.generation();
    let ends = stream.local_addr().and_then(|local| Ok(Ends::new(local, stream.peer_addr()?))).ok();
    let this = Connection { generation: Arc::new(AtomicU64::new(*generation.borrow())), ends };
    let marker = this.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Incoming::new);
        request.extensions_mut().insert(marker.clone());
        answer(Arc::clone(&agent), request)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_BUFFER)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error here is the client's going away; there is nobody left to tell.
        _ = serving => {}
        () = outlived(generation, this) => {}
    }
}

/// Waits until the generation has moved on without this connection.
async fn outlived(mut generation: watch::Receiver<u64>, connection: Connection) {
    while generation.changed().await.is_ok() {
        if *generation.borrow() != connection.generation.load(Ordering::Relaxed) {
            return;
        }
    }
    std::future::pending().await
}

/// A panic fails its own request and nothing else.
async fn answer(agent: Arc<Agent>, request: Request) -> Result<Response, Infallible> {
    let body = request.body().clone();
    // Such a client waits for our word before it sends the body.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let handled = AssertUnwindSafe(route(agent, request)).catch_unwind().await;
    if !asks_first {
        body.drain().await;
    }
    let mut response = handled.unwrap_or_else(|_| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
    });
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, any);
    Ok(response)
}
