//! `ListDir`: a walk in the order of names, each directory directly before what it holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{EntryInfo, describe};
use crate::errno::Reason;
use crate::rpc::{Code, ConnectError};
use crate::users::Names;

/// Most entries of one answer. A client that meets it lists deeper directories by themselves.
const MAX_ENTRIES: usize = 100_000;

/// Lists `path` down to `depth` levels. Only the root may be a link.
pub fn list(path: &Path, depth: u32) -> Result<Vec<EntryInfo>, ConnectError> {
    list_up_to(path, depth.max(1), MAX_ENTRIES)
}

fn list_up_to(path: &Path, depth: u32, limit: usize) -> Result<Vec<EntryInfo>, ConnectError> {
    let shown = path.display();
    let status = fs::metadata(path).map_err(|error| ConnectError::from_io(shown, &error))?;
    if !status.is_dir() {
        let message = format!("path is not a directory: {}", path.display());
        return Err(ConnectError::because(Reason::NotDirectory, message));
    }
    let names = Names::load();
    let mut entries = Vec::new();
    let first = children(path).map_err(|error| ConnectError::from_io(path.display(), &error))?;
    // Entries that are still to be shown, the next one last, with their level.
    let mut ahead: Vec<(PathBuf, u32)> = with_level(first, 1);
    while let Some((path, level)) = ahead.pop() {
        if entries.len() + ahead.len() >= limit {
            let message = format!("the directory holds more than {limit} entries");
            return Err(ConnectError::new(Code::ResourceExhausted, message));
        }
        // Gone, or closed to us, since it was listed.
        let Ok(entry) = describe(&path, &path, &names) else { continue };
        entries.push(entry);
        let directory = path.symlink_metadata().is_ok_and(|status| status.is_dir());
        if directory && level < depth {
            ahead.extend(with_level(children(&path).unwrap_or_default(), level + 1));
        }
    }
    Ok(entries)
}

/// The entries of a directory, the last name first.
fn children(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut children = Vec::new();
    for entry in fs::read_dir(path)?.take(MAX_ENTRIES + 1) {
        children.push(entry?.path());
    }
    children.sort_unstable_by(|a, b| b.cmp(a));
    Ok(children)
}

fn with_level(paths: Vec<PathBuf>, level: u32) -> Vec<(PathBuf, u32)> {
    paths.into_iter().map(|path| (path, level)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/inner/deep")).unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        fs::write(folder.path().join("b/x"), "").unwrap();
        fs::write(folder.path().join("c"), "").unwrap();
        symlink(".", folder.path().join("b/loop")).unwrap();
        folder
    }

    fn paths(root: &Path, depth: u32) -> Vec<String> {
        let entries = serde_json::to_value(list(root, depth).unwrap()).unwrap();
        let prefix = format!("{}/", root.display());
        let path = |entry: &serde_json::Value| {
            entry["path"].as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned()
        };
        entries.as_array().unwrap().iter().map(path).collect()
    }

    #[test]
    fn parents_come_directly_before_their_children() {
        let tree = tree();
        assert_eq!(paths(tree.path(), 0), ["a", "b", "c"]);
        assert_eq!(paths(tree.path(), 2), ["a", "b", "b/inner", "b/loop", "b/x", "c"]);
        assert_eq!(paths(tree.path(), 9).len(), 7);
    }

    #[test]
    fn a_link_is_followed_at_the_root_only() {
        let tree = tree();
        let link = tree.path().join("link");
        symlink("b", &link).unwrap();
        assert_eq!(paths(&link, 1), ["inner", "loop", "x"]);
    }

    #[test]
    fn too_many_entries_are_refused() {
        let tree = tree();
        let error = list_up_to(tree.path(), 5, 4).err().unwrap();
        assert_eq!(error.code, Code::ResourceExhausted);
    }

    #[test]
    fn what_is_missing_or_no_directory_is_named() {
        let tree = tree();
        let missing = list(&tree.path().join("nope"), 1).err().unwrap();
        assert_eq!(missing.code, Code::NotFound);
        let file = tree.path().join("a");
        let error = list(&file, 1).err().unwrap();
        assert_eq!(
            error,
            ConnectError::because(
                Reason::NotDirectory,
                format!("path is not a directory: {}", file.display())
            )
        );
    }
}
