//! The one of the two paths of a move that an error is about.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use crate::rpc::Subject;

pub struct Failure {
    pub subject: Subject,
    pub error: io::Error,
}

pub fn at(subject: Subject) -> impl Fn(io::Error) -> Failure {
    move |error| Failure { subject, error }
}

/// Of a call to the system that had to do with both. The source was there before.
pub fn of_both(error: io::Error, source: &Path, destination: &Path) -> Failure {
    let is_destination = match error.raw_os_error().unwrap_or_default() {
        libc::EEXIST
        | libc::ENOTEMPTY
        | libc::ENOTDIR
        | libc::EISDIR
        | libc::EROFS
        | libc::ENOSPC
        | libc::EDQUOT
        | libc::EMLINK => true,
        libc::ENOENT => source.symlink_metadata().is_ok(),
        libc::EBUSY => destination.file_name().is_none() || is_mount(destination),
        libc::EPERM | libc::EACCES => {
            is_kept(destination) || destination.parent().is_some_and(is_kept)
        }
        _ => false,
    };
    if !is_destination {
        return at(Subject::Source)(error);
    }
    let there = destination.parent().unwrap_or(destination);
    at(Subject::Destination)(no_new_names(error, there))
}

/// A file system such as /proc says that a new name in its directory is not there. `there` is to be.
pub fn no_new_names(error: io::Error, there: &Path) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && there.symlink_metadata().is_ok() {
        return io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    }
    error
}

fn is_mount(path: &Path) -> bool {
    let mount = |path: &Path| {
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)
            .map(|found| found.stx_mnt_id)
    };
    match (mount(path), path.parent().map(mount)) {
        (Ok(own), Some(Ok(above))) => own != above,
        _ => false,
    }
}

/// Its attributes forbid to change or replace it, also to root.
fn is_kept(path: &Path) -> bool {
    let kept = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID)
        .is_ok_and(|found| found.stx_attributes.intersects(kept))
}
