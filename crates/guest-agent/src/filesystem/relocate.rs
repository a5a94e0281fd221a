//! `Move`: by rename where that can be, else by a copy.
//!
//! A copy is made beside the destination under a name of its own. When it is whole the source is renamed out of
//! the way, which shows that its directory lets it go; the copy is renamed into place; then the source is removed.
//! Until then an error leaves both ends as they were. An error of that last step leaves the destination whole, and
//! the rest of the source under its own name.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::copy::{Name, copy, open_directory};
use super::own_name::OwnName;
use super::owner::{Owner, make_parents};
use super::side::{Failure, at, no_new_names, of_both};
use crate::rpc::{ConnectError, Subject};

/// Over what is at the destination as rename(2) allows.
pub fn relocate(source: &Path, destination: &Path, owner: Owner) -> Result<(), ConnectError> {
    let failed = |path: &Path, error: io::Error| ConnectError::from_io(path.display(), &error);
    source.symlink_metadata().map_err(|error| failed(source, error).about(Subject::Source))?;
    let made = make_parents(destination, owner)
        .map_err(|error| failed(destination, error).about(Subject::Destination))?;
    let renamed = match fs::rename(source, destination) {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => across(source, destination),
        result => result.map_err(|error| of_both(error, source, destination)),
    };
    renamed.map_err(|Failure { subject, error }| {
        let what = format!("{} to {}", source.display(), destination.display());
        ConnectError::from_io(what, &error).about(subject)
    })?;
    made.keep();
    Ok(())
}

fn across(source: &Path, destination: &Path) -> Result<(), Failure> {
    let (at_source, at_destination) = (at(Subject::Source), at(Subject::Destination));
    let of_copy = |error| of_both(error, source, destination);
    check_kinds(source, destination).map_err(of_copy)?;
    let copied = Temporary::beside(destination).map_err(&at_destination)?;
    copy_to(source, &copied.path).map_err(of_copy)?;
    let aside = name_beside(source).map_err(&at_source)?;
    fs::rename(source, &aside).map_err(|error| at_source(no_new_names(error, source)))?;
    if let Err(error) = fs::rename(&copied.path, destination) {
        fs::rename(&aside, source).map_err(&at_source)?;
        return Err(at_destination(error));
    }
    remove(&aside).map_err(|error| {
        // Where the name has been taken meanwhile, the rest stays beside it.
        let _ = fs::rename(&aside, source);
        let message = format!("moved, but the rest of the source cannot be removed: {error}");
        at_source(io::Error::other(message))
    })
}

/// The refusals of rename(2), before all of it is copied.
fn check_kinds(source: &Path, destination: &Path) -> io::Result<()> {
    let from = source.symlink_metadata()?;
    let to = match destination.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    let refusal = match (from.is_dir(), to.is_dir()) {
        (true, false) => libc::ENOTDIR,
        (false, true) => libc::EISDIR,
        (true, true) if fs::read_dir(destination)?.next().is_some() => libc::ENOTEMPTY,
        _ => return Ok(()),
    };
    Err(io::Error::from_raw_os_error(refusal))
}

fn copy_to(source: &Path, target: &Path) -> io::Result<()> {
    let (from, from_name) = parent_of(source)?;
    let (to, to_name) = parent_of(target)?;
    let (from, to) = (open_directory(from)?, open_directory(to)?);
    copy(Name { directory: &from, name: &from_name }, Name { directory: &to, name: &to_name })
}

fn parent_of(path: &Path) -> io::Result<(&Path, CString)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, CString::new(name.as_bytes())?)),
        // The root is no name in a directory.
        _ => Err(io::Error::from_raw_os_error(libc::EBUSY)),
    }
}

/// A name that nothing has yet.
fn name_beside(path: &Path) -> io::Result<PathBuf> {
    Ok(path.with_file_name(OwnName::Move.make()?))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// A copy in the making, which is removed again unless it is renamed.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn beside(path: &Path) -> io::Result<Self> {
        Ok(Self { path: name_beside(path)? })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed, or never made: there is nothing to remove.
        let _ = remove(&self.path);
    }
}
