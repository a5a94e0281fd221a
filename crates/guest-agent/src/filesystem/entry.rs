//! The description of one file: E2B's `EntryInfo`.

use std::fs::Metadata as Status;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metadata::{self, Metadata};
use super::mode::permissions;
use crate::escape;
use crate::users::Names;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryInfo {
    name: String,
    r#type: EntryType,
    path: String,
    /// Protobuf's JSON has 64-bit numbers as text. `bytes`
    size: String,
    /// Permission bits; of a link's target.
    mode: u32,
    /// As Go prints them; of the link itself.
    permissions: String,
    owner: String,
    group: String,
    /// RFC 3339
    modified_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink_target: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_symlink: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
}

#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq)]
enum EntryType {
    #[serde(rename = "FILE_TYPE_UNSPECIFIED")]
    Other,
    #[serde(rename = "FILE_TYPE_FILE")]
    File,
    #[serde(rename = "FILE_TYPE_DIRECTORY")]
    Directory,
    #[serde(rename = "FILE_TYPE_SYMLINK")]
    Symlink,
}

impl EntryInfo {
    /// About how long it is. `bytes`
    pub fn weight(&self) -> usize {
        let metadata = self.metadata.iter().flatten();
        let texts = self.name.len() + self.path.len();
        metadata.fold(texts, |sum, (key, value)| sum + key.len() + value.len()) + 512
    }
}

impl EntryType {
    fn of(status: &Status) -> Self {
        let kind = status.file_type();
        if kind.is_file() {
            Self::File
        } else if kind.is_dir() {
            Self::Directory
        } else if kind.is_symlink() {
            Self::Symlink
        } else {
            debug_assert!(
                kind.is_fifo()
                    || kind.is_socket()
                    || kind.is_char_device()
                    || kind.is_block_device()
            );
            Self::Other
        }
    }
}

/// Looks at `path` and reports it under the path `shown`.
pub fn describe(path: &Path, shown: &Path, names: &Names) -> io::Result<EntryInfo> {
    let status = path.symlink_metadata()?;
    // Type and bits of a link are its target's; a link that leads nowhere stands for itself.
    let target = if status.is_symlink() { path.metadata().ok() } else { None };
    let symlink_target = status.is_symlink().then(|| {
        let resolved = path.canonicalize().or_else(|_| path.read_link());
        resolved.map_or_else(|_| String::new(), escape::to_text)
    });
    let subject = target.as_ref().unwrap_or(&status);
    // Attributes are read through the path: an open could block, or have effects, on a device.
    let metadata = if subject.is_file() { metadata::read(path) } else { None };
    Ok(EntryInfo {
        name: escape::to_text(shown.file_name().unwrap_or(shown.as_os_str())),
        r#type: EntryType::of(subject),
        path: escape::to_text(shown),
        size: status.size().to_string(),
        mode: subject.mode() & 0o777,
        permissions: permissions(status.mode()),
        owner: names.user(status.uid()),
        group: names.group(status.gid()),
        modified_time: modified_time(&status),
        symlink_target,
        is_symlink: status.is_symlink(),
        metadata,
    })
}

/// RFC 3339
pub fn modified_time(status: &Status) -> String {
    let nanoseconds = i128::from(status.mtime()) * 1_000_000_000 + i128::from(status.mtime_nsec());
    // RFC 3339 ends with year 9999; a file system's times do not.
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn entry(path: &Path) -> EntryInfo {
        describe(path, path, &Names::load()).unwrap()
    }

    #[test]
    fn a_link_has_its_targets_type_and_its_own_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "four").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("file", &link).unwrap();
        let entry = entry(&link);
        assert_eq!((entry.r#type, entry.mode), (EntryType::File, 0o600));
        assert_eq!(entry.permissions, "Lrwxrwxrwx");
        assert!(entry.is_symlink);
        let target = file.canonicalize().unwrap();
        assert_eq!(entry.symlink_target.as_deref(), target.to_str());
    }

    #[test]
    fn links_that_lead_nowhere_or_in_a_circle_stand_for_themselves() {
        let folder = tempfile::tempdir().unwrap();
        for (name, target) in [("nowhere", "missing"), ("circle", "circle")] {
            let link = folder.path().join(name);
            symlink(target, &link).unwrap();
            assert_eq!(entry(&link).r#type, EntryType::Symlink);
            assert_eq!(entry(&link).symlink_target.as_deref(), Some(target));
        }
    }

    #[test]
    fn the_root_has_a_name() {
        assert_eq!(entry(Path::new("/")).name, "/");
    }

    #[test]
    fn devices_are_of_no_type_that_clients_know() {
        assert_eq!(entry(Path::new("/dev/null")).r#type, EntryType::Other);
    }
}
