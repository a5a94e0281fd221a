//! `POST /files`: one file as the body, or several as the parts of a form.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyDataStream;
use multer::{Constraints, Field, Multipart, SizeLimit};
use serde::Serialize;

use super::attributes::Attributes;
use super::batch::Batch;
use super::query::Query;
use super::staged::Staged;
use super::target::target;
use super::underway::{Files, Underway};
use crate::escape;
use crate::filesystem::{Metadata, Owner, read_metadata};
use crate::http::{ApiError, Incoming, Request, Response, json};
use crate::identity::Identity;
use crate::users::User;

/// Batches of one file that are there at once.
const AT_ONCE: usize = 2;
/// Most files of one form.
const MAX_FILES: usize = 10_000;
const METADATA_HEADER: &str = "x-metadata-";

#[derive(Serialize)]
struct Uploaded {
    name: String,
    path: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

pub async fn upload(
    identity: &Identity,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    let user = identity.user(query.username.as_deref())?;
    let (parts, body) = request.into_parts();
    let metadata = metadata(&parts.headers)?;
    let attributes = Attributes::parse(&parts.headers)?;
    let gzip = is_gzip(&parts.headers)?;
    let target = Target { identity, user, path: query.path };
    let content_type = text(&parts.headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let underway = Underway::default();
    let received = match multer::parse_boundary(content_type) {
        Ok(_) if gzip => {
            return Err(ApiError::bad_request("a form cannot have a content encoding"));
        }
        Ok(boundary) => receive_form(&target, &underway, body, boundary).await,
        Err(_) if is_octets(content_type) => receive_body(&target, &underway, body, gzip).await,
        Err(_) => {
            let message = "content type must be multipart/form-data or application/octet-stream";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
    };
    if let Err(error) = received {
        underway.remove().await;
        return Err(error);
    }
    let place = move |files: &mut Files| -> Result<Vec<Uploaded>, ApiError> {
        let mut files = std::mem::take(files);
        // Everything that can fail before the first rename, does.
        files.iter_mut().rev().try_for_each(|file| file.finish(&metadata, attributes))?;
        files.into_iter().rev().map(|file| file.commit().map(|path| describe(&path))).collect()
    };
    underway.aside(place).await.map(|uploaded| json(StatusCode::OK, &uploaded))
}

/// Where files go, and whose they are.
struct Target<'a> {
    identity: &'a Identity,
    user: User,
    path: Option<String>,
}

impl Target<'_> {
    /// The path in the query goes before the file name of a part.
    async fn stage(
        &self,
        underway: &Underway,
        file_name: Option<&str>,
        gzip: bool,
    ) -> Result<(), ApiError> {
        let path = self.path.as_deref().or(file_name).filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| ApiError::bad_request("the file has no path"))?;
        let destination = target(self.identity, &self.user, path)?;
        let owner = Owner::new(&self.user);
        let stage = move |files: &mut Files| {
            files.push_front(Staged::create(destination, owner, gzip)?);
            Ok(())
        };
        underway.aside(stage).await
    }
}

async fn receive_body(
    target: &Target<'_>,
    underway: &Underway,
    body: Incoming,
    gzip: bool,
) -> Result<(), ApiError> {
    target.stage(underway, None, gzip).await?;
    receive(underway, gzip, Source::Body(BodyDataStream::new(body))).await
}

async fn receive_form(
    target: &Target<'_>,
    underway: &Underway,
    body: Incoming,
    boundary: String,
) -> Result<(), ApiError> {
    let limits = SizeLimit::new().whole_stream(u64::MAX).per_field(u64::MAX);
    let constraints = Constraints::new().size_limit(limits);
    let mut form = Multipart::with_constraints(BodyDataStream::new(body), boundary, constraints);
    let mut count = 0;
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.name() != Some("file") {
            continue;
        }
        if count == MAX_FILES || (target.path.is_some() && count > 0) {
            return Err(ApiError::bad_request("the form has too many files"));
        }
        target.stage(underway, field.file_name(), false).await?;
        receive(underway, false, Source::Part(Box::new(field))).await?;
        count += 1;
    }
    if count == 0 {
        return Err(ApiError::bad_request("the form has no part named 'file'"));
    }
    Ok(())
}

/// Writes the whole body to the latest file, in batches: each goes to a thread that may block, while the next one is
/// gathered. That one is on its way before the end of the first is waited for, so that the disk always has something to do.
async fn receive(underway: &Underway, gzip: bool, source: Source<'_>) -> Result<(), ApiError> {
    let mut body = Body { source, rest: Bytes::new() };
    let (mut steps, mut spare) = (VecDeque::with_capacity(AT_ONCE), None);
    let mut offset = 0;
    loop {
        let batch = body.fill(spare.take().unwrap_or_else(Batch::new)).await?;
        let (length, is_last) = (batch.bytes().len() as u64, !batch.is_full());
        if gzip {
            let unpack = move |file: &mut Staged| file.unpack(&batch).map(|()| batch);
            spare = Some(underway.latest(unpack).await?);
        } else if length > 0 {
            // The way to another thread and back costs as much as a small file: a batch goes it once.
            let begin = underway.on_latest(move |file| file.begin(batch, offset));
            steps.push_back(tokio::task::spawn_blocking(|| begin()?.write()));
            offset += length;
        }
        while steps.len() == AT_ONCE || (is_last && !steps.is_empty()) {
            let Some(step) = steps.pop_front() else { break };
            spare = Some(step.await.map_err(ApiError::internal)??);
        }
        if is_last {
            return Ok(());
        }
    }
}

/// A source, and what of it did not fit into the last batch.
struct Body<'a> {
    source: Source<'a>,
    rest: Bytes,
}

impl Body<'_> {
    /// The next batch, in the memory of an earlier one. A batch that is not full is the last.
    async fn fill(&mut self, mut batch: Batch) -> Result<Batch, ApiError> {
        batch.clear();
        loop {
            batch.fill(&mut self.rest);
            if batch.is_full() {
                return Ok(batch);
            }
            match self.source.next().await? {
                Some(chunk) => self.rest = chunk,
                None => return Ok(batch),
            }
        }
    }
}

/// Where the bytes of one file come from.
enum Source<'a> {
    Body(BodyDataStream<Incoming>),
    Part(Box<Field<'a>>),
}

impl Source<'_> {
    /// An error is a body that broke off, so that nothing is put in place.
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        match self {
            Self::Part(field) => field.chunk().await.map_err(broken),
            Self::Body(body) => {
                let chunk = body.next().await.transpose();
                chunk.map_err(|error| ApiError::bad_request(&error.to_string()))
            }
        }
    }
}

fn broken(error: multer::Error) -> ApiError {
    ApiError::bad_request(&error.to_string())
}

fn describe(path: &Path) -> Uploaded {
    Uploaded {
        name: escape::to_text(path.file_name().unwrap_or_default()),
        path: escape::to_text(path),
        r#type: "file",
        metadata: read_metadata(path),
    }
}

/// `X-Metadata-<key>: <value>`. The names of headers arrive in lower case.
fn metadata(headers: &HeaderMap) -> Result<Metadata, ApiError> {
    let mut metadata = Metadata::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(METADATA_HEADER) else { continue };
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::bad_request("metadata is not UTF-8"))?;
        metadata.insert(key.to_owned(), value.to_owned());
    }
    Ok(metadata)
}

/// By RFC 9110: names in either case, in one list or several, of which `identity` says nothing.
fn is_gzip(headers: &HeaderMap) -> Result<bool, ApiError> {
    let mut encodings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let names = names.map(<[u8]>::to_ascii_lowercase);
        encodings.extend(names.filter(|name| !matches!(&name[..], b"" | b"identity")));
    }
    match &encodings[..] {
        [] => Ok(false),
        [only] if matches!(&only[..], b"gzip" | b"x-gzip") => Ok(true),
        _ => {
            let message = "content encoding must be gzip or identity";
            Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
    }
}

fn is_octets(content_type: &str) -> bool {
    content_type.split(';').next().map(str::trim) == Some("application/octet-stream")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
