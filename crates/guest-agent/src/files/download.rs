//! `GET /files`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::query::Query;
use super::{aside, failure, range, target};
use crate::agent::Agent;
use crate::http::{ApiError, Request, Response, empty, stream as streamed};

const CHUNK: usize = 256 << 10;
const TYPE: &str = "application/octet-stream";

pub async fn download(
    agent: &Agent,
    query: &Query,
    request: Request,
) -> Result<Response, ApiError> {
    let user = agent
        .identity
        .user(query.username.as_deref())
        .map_err(|error| ApiError::unauthorized(&error.to_string()))?;
    let path = query.path.as_deref().unwrap_or(".");
    let path = target(agent, &user, path)?;
    let (file, size) = aside(move || open(&path)).await?;
    let wanted = header_text(request.headers(), "range");
    let head_only = request.method() == Method::HEAD;
    respond(file, size, wanted, head_only).await
}

/// Opens a regular file. Without waiting: a FIFO or a terminal would keep us for ever.
fn open(path: &Path) -> Result<(File, u64), ApiError> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(|error| failure(path, &error))?;
    let status = file.metadata().map_err(|error| failure(path, &error))?;
    if status.is_dir() {
        let message = format!("path '{}' is a directory", path.display());
        return Err(ApiError::bad_request(&message));
    }
    if !status.is_file() {
        let message = format!("path '{}' is not a regular file", path.display());
        return Err(ApiError::bad_request(&message));
    }
    Ok((file, status.len()))
}

async fn respond(
    file: File,
    size: u64,
    wanted: Option<&str>,
    head_only: bool,
) -> Result<Response, ApiError> {
    // Files of /proc say they are empty; they are read to their end, whatever that is.
    if size == 0 {
        return unsized_response(file, head_only).await;
    }
    let (status, part) = match range::parse(wanted, size) {
        None => (StatusCode::OK, 0..size),
        Some(Ok(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Some(Err(())) => {
            let error =
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such range");
            let mut response = error.into_response();
            set(&mut response, header::CONTENT_RANGE, format!("bytes */{size}"));
            return Ok(response);
        }
    };
    let length = part.end - part.start;
    let mut response = if head_only {
        empty(status)
    } else {
        streamed(status, TYPE, chunks(file, part.start, Some(length)))
    };
    set(&mut response, header::CONTENT_LENGTH, length.to_string());
    set(&mut response, header::ACCEPT_RANGES, "bytes".into());
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        set(&mut response, header::CONTENT_RANGE, text);
    }
    Ok(response)
}

/// The first piece is read ahead, so that an empty file gets its `Content-Length: 0`.
async fn unsized_response(mut file: File, head_only: bool) -> Result<Response, ApiError> {
    let (file, first) = aside(move || {
        let first = read_chunk(&mut file, CHUNK).map_err(ApiError::internal)?;
        Ok((file, first))
    })
    .await?;
    if first.is_empty() || head_only {
        let mut response = empty(StatusCode::OK);
        set(&mut response, header::CONTENT_TYPE, TYPE.into());
        return Ok(response);
    }
    let rest = chunks(file, first.len() as u64, None);
    let first = stream::once(async { Ok(first) });
    Ok(streamed(StatusCode::OK, TYPE, futures_util::StreamExt::chain(first, rest)))
}

/// The file from `offset`, `length` bytes of it or all. A file that has become shorter breaks
/// the stream, and so the connection: a client must not take a part for the whole.
fn chunks(
    file: File,
    offset: u64,
    length: Option<u64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let start = Some((file, offset, length));
    stream::unfold(start, move |state| async move {
        let (mut file, offset, left) = state?;
        let limit = left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        if limit == 0 {
            return None;
        }
        let read = tokio::task::spawn_blocking(move || {
            file.seek(SeekFrom::Start(offset))?;
            let chunk = read_chunk(&mut file, limit)?;
            Ok::<_, io::Error>((file, chunk))
        });
        match read.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok((_, chunk)) if chunk.is_empty() && left.is_none() => None,
            Ok((_, chunk)) if chunk.is_empty() => {
                Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None))
            }
            Ok((file, chunk)) => {
                let count = chunk.len() as u64;
                let next = (file, offset + count, left.map(|left| left - count));
                Some((Ok(chunk), Some(next)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Up to `limit` bytes; less only where the file ends.
fn read_chunk(file: &mut File, limit: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(limit);
    file.take(limit as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn set(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
