//! `GET /files`.

use std::fs::{File, Metadata as Status};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustix::fs::{Advice, fadvise};

use super::query::Query;
use super::{aside, attributes, failure, range, target};
use crate::http::{ApiError, Request, Response, empty, stream as streamed};
use crate::identity::Identity;

const CHUNK: usize = 256 << 10;
const TYPE: &str = "application/octet-stream";

pub async fn download(
    identity: &Identity,
    query: &Query,
    request: Request,
) -> Result<Response, ApiError> {
    let user = identity.user(query.username.as_deref())?;
    let path = query.path.as_deref().unwrap_or(".");
    let path = target(identity, &user, path)?;
    let (file, status) = aside(move || open(&path)).await?;
    let wanted = header_text(request.headers(), "range");
    let head_only = request.method() == Method::HEAD;
    let mut response = respond(file, status.len(), wanted, head_only).await?;
    attributes::describe(&status, response.headers_mut());
    Ok(response)
}

/// Opens a regular file. Without waiting: a FIFO or a terminal would keep us for ever.
fn open(path: &Path) -> Result<(File, Status), ApiError> {
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
    // Reads ahead further. It is only advice: without it the file comes all the same.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    Ok((file, status))
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
async fn unsized_response(file: File, head_only: bool) -> Result<Response, ApiError> {
    let (file, first) = aside(move || {
        let first = read_chunk(&file, 0, CHUNK, Wait::Yes).map_err(ApiError::internal)?;
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
    let start = Some((Arc::new(file), offset, length));
    stream::unfold(start, move |state| async move {
        let (file, offset, left) = state?;
        let limit = left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        if limit == 0 {
            return None;
        }
        match next_chunk(&file, offset, limit).await {
            Ok(chunk) if chunk.is_empty() && left.is_none() => None,
            Ok(chunk) if chunk.is_empty() => {
                Some((Err(io::Error::from(io::ErrorKind::UnexpectedEof)), None))
            }
            Ok(chunk) => {
                let count = chunk.len() as u64;
                let next = (file, offset + count, left.map(|left| left - count));
                Some((Ok(chunk), Some(next)))
            }
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Pages in memory are read at once; for the rest a thread waits. On a machine with one processor
/// the way to a thread and back costs more than the reading.
async fn next_chunk(file: &Arc<File>, offset: u64, limit: usize) -> io::Result<Bytes> {
    match read_chunk(file, offset, limit, Wait::No) {
        Ok(chunk) if !chunk.is_empty() => return Ok(chunk),
        // The end of the file, or a file system that cannot tell: asked again, with patience.
        _ => {}
    }
    let file = Arc::clone(file);
    let read = move || read_chunk(&file, offset, limit, Wait::Yes);
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    Yes,
}

/// Up to `limit` bytes, nothing only at the end of the file.
fn read_chunk(file: &File, offset: u64, limit: usize, wait: Wait) -> io::Result<Bytes> {
    let mut chunk = Vec::<u8>::with_capacity(limit);
    let room = libc::iovec { iov_base: chunk.as_mut_ptr().cast(), iov_len: limit };
    let flags = if wait == Wait::No { libc::RWF_NOWAIT } else { 0 };
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    loop {
        // SAFETY: the wrappers want memory that is written to already, and clearing each chunk
        // would cost as much as reading it. The kernel writes at most `limit` bytes to what the
        // vector has room for, and keeps no pointer.
        let count = unsafe { libc::preadv2(file.as_raw_fd(), &raw const room, 1, offset, flags) };
        if let Ok(count) = usize::try_from(count) {
            // SAFETY: the kernel has written `count` bytes, which is at most the capacity.
            unsafe { chunk.set_len(count) };
            return Ok(chunk.into());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn set(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
