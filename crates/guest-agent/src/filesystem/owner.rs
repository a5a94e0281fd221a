//! To whom new files and directories belong.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid, fchown};

use crate::users::User;

/// A user and the user's primary group. Only root can give files away; anybody else keeps them.
#[derive(Clone, Copy)]
pub struct Owner {
    ids: Option<(u32, u32)>,
}

impl Owner {
    pub fn new(user: &User) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self { ids: root.then_some((user.uid, user.gid)) }
    }

    /// Of a file that is replaced.
    pub fn of(status: &Metadata) -> Self {
        let root = rustix::process::geteuid().is_root();
        Self { ids: root.then_some((status.uid(), status.gid())) }
    }

    pub fn give(self, file: impl AsFd) -> io::Result<()> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        Ok(fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
    }

    fn give_path(self, path: &Path) -> io::Result<()> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        lchown(path, Some(uid), Some(gid))
    }
}

/// Longest name of a file, in bytes.
const NAME_MAX: usize = 255;

/// Directories that were made for what is to lie in them. Dropped, those that are still empty are removed again,
/// unless they are kept.
#[must_use]
#[derive(Debug, Default)]
pub struct Made {
    /// Each before those in it.
    paths: Vec<PathBuf>,
}

impl Made {
    pub fn keep(mut self) {
        self.paths.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.paths.iter().rev() {
            // Somebody else may use it by now.
            if fs::remove_dir(path).is_err() {
                break;
            }
        }
    }
}

/// Makes `path` and the directories above it that are missing, 0755 and given to `owner`.
///
/// A directory that is there is no error; anything else there is.
pub fn make_directories(path: &Path, owner: Owner) -> io::Result<Made> {
    let mut missing: Vec<PathBuf> = Vec::new();
    for ancestor in path.ancestors() {
        match ancestor.metadata() {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(ancestor.to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    let mut made = Made::default();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o755).create(&directory) {
            Ok(()) => {
                made.paths.push(directory);
                made.paths.last().map_or(Ok(()), |directory| owner.give_path(directory))?;
            }
            // Somebody else was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(made)
}

/// Makes the directories that `path` is to lie in. A name that no file can have is refused before.
pub fn make_parents(path: &Path, owner: Owner) -> io::Result<Made> {
    if path.file_name().is_some_and(|name| name.len() > NAME_MAX) {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    path.parent().map_or_else(|| Ok(Made::default()), |parent| make_directories(parent, owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Owner = Owner { ids: None };

    #[test]
    fn makes_what_is_missing_and_leaves_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        make_directories(&deep, NOBODY).unwrap().keep();
        make_directories(&deep, NOBODY).unwrap().keep();
        assert!(deep.is_dir());
    }

    #[test]
    fn what_was_made_and_is_empty_goes_again_unless_it_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let made = make_directories(&folder.path().join("a/b/c/d"), NOBODY).unwrap();
        std::fs::write(folder.path().join("a/b/file"), "").unwrap();
        drop(made);
        assert!(folder.path().join("a/b/file").exists());
        assert!(!folder.path().join("a/b/c").exists());
        drop(make_directories(&folder.path().join("a/e/f"), NOBODY).unwrap());
        assert!(folder.path().join("a").exists());
        assert!(!folder.path().join("a/e").exists());
    }

    #[test]
    fn a_file_on_the_way_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = make_directories(&file.join("x"), NOBODY).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
        std::os::unix::fs::symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert!(make_directories(&folder.path().join("dangling/x"), NOBODY).is_err());
    }
}
