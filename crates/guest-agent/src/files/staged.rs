//! A file being uploaded: written beside its destination, and put in place only when whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use flate2::write::MultiGzDecoder;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::batch::Batch;
use super::plain::{Piece, PlainFile};
use crate::errno::Reason;
use crate::filesystem::{Made, Metadata, OwnName, Owner, make_parents, replace_metadata};
use crate::http::ApiError;
use crate::paths::PATH_MAX;

/// How many random names are tried.
const ATTEMPTS: usize = 16;

/// Removed again unless it is committed, with the directories that were made for it.
pub struct Staged {
    destination: PathBuf,
    temporary: PathBuf,
    sink: Option<Sink>,
    /// The mode of the file that is replaced.
    mode: Option<u32>,
    parents: Made,
}

enum Sink {
    Plain(PlainFile),
    Gzip(Box<MultiGzDecoder<File>>),
}

impl Staged {
    /// A new file is the `owner`'s; one that is replaced keeps its owner, group and mode.
    pub fn create(destination: PathBuf, owner: Owner, gzip: bool) -> Result<Self, ApiError> {
        let destination = follow(destination)?;
        let failed = |error: io::Error| ApiError::from_io(destination.display(), &error);
        let earlier = match fs::metadata(&destination) {
            Ok(found) if found.is_dir() => {
                let message = format!("path is a directory: {}", destination.display());
                return Err(ApiError::because(Reason::NotFile, message));
            }
            Ok(found) if !found.is_file() => {
                let message = format!("path is not a regular file: {}", destination.display());
                return Err(ApiError::because(Reason::NotFile, message));
            }
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let (parents, temporary, file) = prepare(&destination, owner).map_err(failed)?;
        let mode = earlier.as_ref().map(|found| found.mode() & 0o7777);
        let mut staged = Self { destination, temporary, sink: None, mode, parents };
        let owner = earlier.as_ref().map_or(owner, Owner::of);
        owner.give(&file).map_err(|error| staged.failure(&error))?;
        staged.sink = Some(if gzip {
            Sink::Gzip(Box::new(MultiGzDecoder::new(file)))
        } else {
            Sink::Plain(PlainFile::new(file))
        });
        Ok(staged)
    }

    /// What is to be done with a batch. It blocks, as the step does. Steps may be done beside each other.
    pub fn begin(&mut self, batch: Batch, offset: u64) -> Result<Step, ApiError> {
        match &mut self.sink {
            Some(Sink::Plain(file)) => match file.begin(batch, offset) {
                Ok(piece) => Ok(Step { piece, path: self.destination.clone() }),
                Err(error) => Err(self.failure(&error)),
            },
            _ => Err(self.failure(&io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// The next batch of what is packed.
    pub fn unpack(&mut self, batch: &Batch) -> Result<(), ApiError> {
        match &mut self.sink {
            Some(Sink::Gzip(decoder)) => {
                decoder.write_all(batch.bytes()).map_err(|error| self.encoding(&error))
            }
            _ => Err(self.failure(&io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// The body has arrived whole: checks what can be checked before the file is put in place.
    pub fn finish(&mut self, metadata: &Metadata, attributes: Attributes) -> Result<(), ApiError> {
        let file = match self.sink.take() {
            Some(Sink::Plain(file)) => file.into_file(),
            Some(Sink::Gzip(decoder)) => {
                Ok(decoder.finish().map_err(|error| self.encoding(&error))?)
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let file = file.map_err(|error| self.failure(&error))?;
        let finished =
            replace_metadata(&file, metadata).and_then(|()| attributes.apply(&file, self.mode));
        finished.map_err(|error| self.failure(&error))
    }

    /// Puts the finished file in place, over an earlier one.
    pub fn commit(self) -> Result<PathBuf, ApiError> {
        let mut this = self;
        this.put_in_place().map_err(|error| this.failure(&error))?;
        this.temporary = PathBuf::new();
        std::mem::take(&mut this.parents).keep();
        Ok(std::mem::take(&mut this.destination))
    }

    /// A rename over a file is made from a name of its own, by which a watch tells it from one that makes a file.
    fn put_in_place(&mut self) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(CWD, &self.temporary, CWD, &self.destination, flags) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            // The file system does not know the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if self.destination.symlink_metadata().is_err() {
                    return fs::rename(&self.temporary, &self.destination);
                }
            }
            Err(error) => return Err(error.into()),
        }
        let replacement = self.temporary.with_file_name(OwnName::Replacement.make()?);
        fs::rename(&self.temporary, &replacement)?;
        self.temporary = replacement;
        fs::rename(&self.temporary, &self.destination)
    }

    /// The decoder's own errors have no number.
    fn encoding(&self, error: &io::Error) -> ApiError {
        match error.raw_os_error() {
            Some(_) => self.failure(error),
            None => {
                ApiError::because(Reason::Encoding, format_args!("the body is no gzip: {error}"))
            }
        }
    }

    fn failure(&self, error: &io::Error) -> ApiError {
        ApiError::from_io(self.destination.display(), error)
    }
}

/// A piece of a file, and whose it is, for errors.
pub struct Step {
    piece: Piece,
    path: PathBuf,
}

impl Step {
    /// Gives back the memory.
    pub fn write(self) -> Result<Batch, ApiError> {
        let Self { piece, path } = self;
        piece.write().map_err(|error| ApiError::from_io(path.display(), &error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.temporary.as_os_str().is_empty() {
            // Gone already, or in a directory that is: nothing is left over either way.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The file that a link stands for, so that writing to a link writes to its target.
fn follow(path: PathBuf) -> Result<PathBuf, ApiError> {
    match path.symlink_metadata() {
        Ok(status) if status.is_symlink() => match path.canonicalize() {
            Ok(target) => Ok(target),
            // A link to a file that is yet to be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let target =
                    path.read_link().map_err(|error| ApiError::from_io(path.display(), &error))?;
                let folder = path.parent().unwrap_or(Path::new("/"));
                let target = folder.join(target);
                if target.is_symlink() {
                    let message = format!("{}: a link to a broken link", path.display());
                    return Err(ApiError::because(Reason::Invalid, message));
                }
                Ok(target)
            }
            Err(error) => Err(ApiError::from_io(path.display(), &error)),
        },
        _ => Ok(path),
    }
}

/// The directories that the file is to lie in, and the file that is to take its place there.
fn prepare(destination: &Path, owner: Owner) -> io::Result<(Made, PathBuf, File)> {
    if temporary_beside(destination)?.as_os_str().len() >= PATH_MAX {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    let mut last = io::Error::from(io::ErrorKind::InvalidInput);
    for _ in 0..ATTEMPTS {
        let prepared = make_parents(destination, owner).and_then(|parents| {
            let (temporary, file) = open_beside(destination)?;
            Ok((parents, temporary, file))
        });
        match prepared {
            // Another upload, which failed, has removed a directory that it had made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            prepared => return prepared,
        }
    }
    Err(last)
}

fn temporary_beside(destination: &Path) -> io::Result<PathBuf> {
    Ok(destination.with_file_name(OwnName::Upload.make()?))
}

/// A new file in the destination's directory, so that a rename puts it in place.
fn open_beside(destination: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600);
    let mut last = io::Error::from(io::ErrorKind::InvalidInput);
    for _ in 0..ATTEMPTS {
        let temporary = temporary_beside(destination)?;
        match options.open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
