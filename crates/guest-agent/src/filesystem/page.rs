//! `perch.Files/List`: a directory in pages, by the bytes of its names. Not in E2B's protocol.
//!
//! For each page all names are read, a few of them are kept, and only those are looked at.

use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::entry::{EntryInfo, describe};
use crate::errno::Reason;
use crate::rpc::ConnectError;
use crate::users::Names;

/// Most entries of one page.
const MAX_ENTRIES: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    pub entries: Vec<EntryInfo>,
    /// The last name of the page, in a form for clients; absent when no other page follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The first `limit` entries, or those after the `cursor` of the page before.
pub fn page(path: &Path, limit: u32, cursor: Option<&str>) -> Result<Page, ConnectError> {
    let limit = usize::try_from(limit).unwrap_or(MAX_ENTRIES).clamp(1, MAX_ENTRIES);
    let after = match cursor {
        None => None,
        Some(cursor) => Some(read_cursor(cursor)?),
    };
    let names = smallest(path, limit + 1, after.as_ref())
        .map_err(|error| ConnectError::from_io(path.display(), &error))?;
    let more = names.len() > limit;
    let users = Names::load();
    let shown = &names[..names.len().min(limit)];
    let next_cursor =
        more.then(|| shown.last().map(|name| URL_SAFE_NO_PAD.encode(name.as_bytes())));
    // One may be gone, or closed to us, since it was read.
    let entries = shown
        .iter()
        .filter_map(|name| {
            let path = path.join(name);
            describe(&path, &path, &users).ok()
        })
        .collect();
    Ok(Page { entries, next_cursor: next_cursor.flatten() })
}

fn smallest(path: &Path, count: usize, after: Option<&OsString>) -> std::io::Result<Vec<OsString>> {
    let mut kept = BinaryHeap::with_capacity(count + 1);
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if after.is_some_and(|after| name <= *after) {
            continue;
        }
        if kept.len() < count {
            kept.push(name);
        } else if kept.peek().is_some_and(|largest| name < *largest) {
            kept.pop();
            kept.push(name);
        }
    }
    Ok(kept.into_sorted_vec())
}

fn read_cursor(cursor: &str) -> Result<OsString, ConnectError> {
    let name = URL_SAFE_NO_PAD.decode(cursor).ok().filter(|name| !name.is_empty());
    let refused = || ConnectError::because(Reason::Invalid, "the cursor is none of a page before");
    name.map(OsString::from_vec).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn names(root: &Path, limit: u32) -> Vec<Vec<u8>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = page(root, limit, cursor.as_deref()).unwrap();
            assert!(page.entries.len() <= limit as usize);
            let entries = serde_json::to_value(page.entries).unwrap();
            let name = |entry: &serde_json::Value| {
                crate::escape::from_text(entry["name"].as_str().unwrap()).into_vec()
            };
            all.extend(entries.as_array().unwrap().iter().map(name));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return all;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn pages_together_are_the_directory_in_order(
            wanted in prop::collection::btree_set("[a-c\u{e4}.]{1,3}", 0..20),
            odd in prop::collection::btree_set(0x80..=0xffu8, 0..4),
            limit in 1..8u32,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let dots = [".", ".."].map(|name| name.as_bytes().to_vec());
            let mut all: BTreeSet<Vec<u8>> = wanted.into_iter().map(String::into_bytes).collect();
            all.extend(odd.into_iter().map(|byte| vec![b'x', byte]));
            all.retain(|name| !dots.contains(name));
            for name in &all {
                fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
            }
            prop_assert_eq!(names(folder.path(), limit), all.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended_though_that_entry_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let cursor = page(folder.path(), 2, None).unwrap().next_cursor.unwrap();
        fs::remove_file(folder.path().join("b")).unwrap();
        let rest = page(folder.path(), 2, Some(&cursor)).unwrap();
        assert_eq!((rest.entries.len(), rest.next_cursor), (1, None));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for cursor in ["", "*", "a"] {
            let error = page(Path::new("/"), 1, Some(cursor)).err().unwrap();
            assert_eq!(error.reason, Some(Reason::Invalid), "{cursor}");
        }
    }
}
