//! Connections: how many, how long, and to which generation they belong.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::connection::Connection;
use super::{ApiError, Incoming, ReadsOn, Request, Response};

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

/// Serves for ever. `generation` ends the connections of an earlier one.
pub async fn serve<H, F>(listener: TcpListener, generation: watch::Receiver<u64>, handler: H)
where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (generation, handler) = (generation.clone(), handler.clone());
                tokio::spawn(async move {
                    connection(stream, generation, handler).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection<H, F>(stream: TcpStream, mut generation: watch::Receiver<u64>, handler: H)
where
    H: Fn(Request) -> F + Clone,
    F: Future<Output = Response>,
{
    // Without it, small frames of a stream wait for the peer's acknowledgement.
    let _ = stream.set_nodelay(true);
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?))).ok();
    let this = Connection::new(*generation.borrow_and_update(), ends);
    let marker = this.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Incoming::new);
        request.extensions_mut().insert(marker.clone());
        answer(handler.clone(), request)
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
        () = this.outlived(generation) => {}
    }
}

/// A panic fails its own request and nothing else.
async fn answer<H, F>(handler: H, request: Request) -> Result<Response, Infallible>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let body = request.body().clone();
    // Such a client waits for our word before it sends the body.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let handled = AssertUnwindSafe(handler(request)).catch_unwind().await;
    let reads_on = |response: &Response| response.extensions().get::<ReadsOn>().is_some();
    if !asks_first && !handled.as_ref().is_ok_and(reads_on) {
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
