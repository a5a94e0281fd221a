//! A client's own notes on a file, kept as extended attributes `user.e2b.<key>`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

const PREFIX: &str = "user.e2b.";
/// The kernel's bounds on names and values (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_BYTES: usize = 64 << 10;

pub type Metadata = BTreeMap<String, String>;

/// `None` when there is none, also where the file system cannot hold any.
pub fn read(path: &Path) -> Option<Metadata> {
    let mut names = vec![0; MAX_BYTES];
    let length = listxattr(path, &mut names[..]).ok()?;
    let mut metadata = Metadata::new();
    for name in own_names(&names[..length]) {
        let mut value = vec![0; MAX_BYTES];
        let Ok(length) = getxattr(path, name, &mut value[..]) else { continue };
        let key = name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
        metadata.insert(key, String::from_utf8_lossy(&value[..length]).into_owned());
    }
    (!metadata.is_empty()).then_some(metadata)
}

/// Replaces all earlier notes. Without new ones, a file system that cannot hold any is no error.
pub fn replace(file: impl AsFd, metadata: &Metadata) -> io::Result<()> {
    let file = file.as_fd();
    let mut names = vec![0; MAX_BYTES];
    match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => {
            for name in own_names(&names[..length]) {
                fremovexattr(file, name)?;
            }
        }
        Err(Errno::OPNOTSUPP) if metadata.is_empty() => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for (key, value) in metadata {
        let name = format!("{PREFIX}{key}");
        fsetxattr(file, name.as_str(), value.as_bytes(), XattrFlags::empty())?;
    }
    Ok(())
}

fn own_names(list: &[u8]) -> impl Iterator<Item = &str> {
    list.split(|byte| *byte == 0)
        .filter_map(|name| std::str::from_utf8(name).ok())
        .filter(|name| name.starts_with(PREFIX))
}
