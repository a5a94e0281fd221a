//! `MakeDir` and `Remove`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::mounts::holds_mount;
use super::owner::{Owner, make_directories};
use crate::errno::Reason;
use crate::rpc::{Code, ConnectError};

/// Makes a directory and those above it. An existing directory is an error.
pub fn make_directory(path: &Path, owner: Owner) -> Result<(), ConnectError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            let message = format!("directory already exists: {}", path.display());
            return Err(ConnectError::because(Reason::Exists, message));
        }
        Ok(_) => {
            let message =
                format!("path already exists but it is not a directory: {}", path.display());
            return Err(ConnectError {
                code: Code::InvalidArgument,
                ..ConnectError::because(Reason::NotDirectory, message)
            });
        }
        Err(_) => {}
    }
    let made = make_directories(path, owner)
        .map_err(|error| ConnectError::from_io(path.display(), &error))?;
    made.keep();
    Ok(())
}

/// Removes a file or a whole tree; links are removed, not followed. Nothing there is no error. A tree that something
/// is mounted in is busy, and stays whole.
pub fn remove(path: &Path) -> Result<(), ConnectError> {
    if path.parent().is_none() {
        return Err(ConnectError::invalid("the root cannot be removed"));
    }
    let removed = match path.symlink_metadata() {
        Ok(status) if status.is_dir() => remove_tree(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(ConnectError::from_io(path.display(), &error))
        }
        _ => Ok(()),
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    if holds_mount(path)? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    fs::remove_dir_all(path)
}
