//! `GET /files`.

use std::fs::{File, Metadata as Status};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderValue, Method, StatusCode, header};
use rustix::fs::{Advice, fadvise};

use super::query::Query;
use super::target::{aside, target};
use super::{attributes, range};
use crate::errno::Reason;
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
    let opened = aside(move || open(&path)).await?;
    let wanted = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let head_only = request.method() == Method::HEAD;
    let status = opened.status.clone();
    let mut response = respond(opened, wanted, head_only);
    attributes::describe(&status, response.headers_mut());
    Ok(response)
}

struct Opened {
    file: File,
    status: Status,
    /// The file's first bytes, read ahead: all of them when they are fewer than a chunk.
    first: Bytes,
}

/// Opens a regular file. Without waiting: a FIFO or a terminal would keep us for ever.
fn open(path: &Path) -> Result<Opened, ApiError> {
    let failed = |error: io::Error| ApiError::from_io(path.display(), &error);
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    if status.is_dir() {
        let message = format!("path '{}' is a directory", path.display());
        return Err(ApiError::because(Reason::NotFile, message));
    }
    if !status.is_file() {
        let message = format!("path '{}' is not a regular file", path.display());
        return Err(ApiError::because(Reason::NotFile, message));
    }
    // Reads ahead further. It is only advice: without it the file comes all the same.
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    let first = read_ahead(&file).map_err(failed)?;
    Ok(Opened { file, status, first })
}

/// A chunk, or less than that only at the end of the file.
fn read_ahead(file: &File) -> io::Result<Bytes> {
    let mut first = BytesMut::from(read_chunk(file, 0, CHUNK, Wait::Yes)?);
    // A file of /proc is given in pieces, and any other tells its end by a read of nothing.
    while !first.is_empty() && first.len() < CHUNK {
        let more = read_chunk(file, first.len() as u64, CHUNK - first.len(), Wait::Yes)?;
        if more.is_empty() {
            break;
        }
        first.extend_from_slice(&more);
    }
    Ok(first.freeze())
}

/// The size that a file states is believed only when more than a chunk of it is there: those of /proc and /sys
/// state what they like.
fn respond(opened: Opened, wanted: Option<&str>, head_only: bool) -> Response {
    let Opened { file, status, first } = opened;
    let is_whole = first.len() < CHUNK;
    let size = if is_whole { first.len() as u64 } else { status.len() };
    if size < first.len() as u64 {
        return unsized_response(file, first, head_only);
    }
    let (status, part) = match range::parse(wanted, size) {
        None => (StatusCode::OK, 0..size),
        Some(Ok(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Some(Err(())) => {
            let error =
                ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "the file has no such range");
            let mut response = error.into_response();
            set(&mut response, header::CONTENT_RANGE, format!("bytes */{size}"));
            return response;
        }
    };
    let length = part.end - part.start;
    let mut response = if head_only || length == 0 {
        let mut response = empty(status);
        set(&mut response, header::CONTENT_TYPE, TYPE.into());
        response
    } else {
        let ahead = first
            .slice((part.start as usize).min(first.len())..(part.end as usize).min(first.len()));
        let left = length - ahead.len() as u64;
        let rest = chunks(file, part.end - left, Some(left));
        streamed(status, TYPE, once(ahead).chain(rest))
    };
    set(&mut response, header::CONTENT_LENGTH, length.to_string());
    set(&mut response, header::ACCEPT_RANGES, "bytes".into());
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        set(&mut response, header::CONTENT_RANGE, text);
    }
    response
}

fn unsized_response(file: File, first: Bytes, head_only: bool) -> Response {
    if head_only {
        let mut response = empty(StatusCode::OK);
        set(&mut response, header::CONTENT_TYPE, TYPE.into());
        return response;
    }
    let rest = chunks(file, first.len() as u64, None);
    streamed(StatusCode::OK, TYPE, once(first).chain(rest))
}

/// Nothing for no bytes: an empty frame would end a body that is sent in chunks.
fn once(bytes: Bytes) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::iter((!bytes.is_empty()).then_some(Ok(bytes)))
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

fn set(response: &mut Response, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
