//! Mode and time of a file, as headers of an upload or a download. Not in E2B's protocol.
//!
//! `Perch-Mode: 0640` has permission bits in octal and no others: nobody becomes root by copying.
//! `Perch-Mtime: 2026-03-01T12:00:00.5Z` is RFC 3339.

use std::fs::{File, Metadata as Status, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use http::{HeaderMap, HeaderValue};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, futimens};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::filesystem::modified_time;
use crate::http::ApiError;

const MODE: &str = "perch-mode";
const MTIME: &str = "perch-mtime";
const PERMISSIONS: u32 = 0o777;

/// The attributes that an upload wants for its file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    pub mode: Option<u32>,
    modified: Option<Timespec>,
}

impl Attributes {
    pub fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or(""));
        let mode = text(MODE).map(|text| parse_mode(text).ok_or(MODE)).transpose();
        let modified = text(MTIME).map(|text| parse_time(text).ok_or(MTIME)).transpose();
        let refused = |name| ApiError::bad_request(&format!("{name} is not valid"));
        Ok(Self { mode: mode.map_err(refused)?, modified: modified.map_err(refused)? })
    }

    /// The last change to the file: its content must have been written.
    /// A file that replaces another is open to nobody new, whatever mode is stated.
    pub fn apply(self, file: &File, earlier: Option<u32>) -> io::Result<()> {
        let mode = match (self.mode, earlier) {
            (Some(stated), Some(earlier)) => stated & earlier,
            (stated, earlier) => stated.or(earlier).unwrap_or(0o644),
        };
        file.set_permissions(Permissions::from_mode(mode))?;
        let Some(last_modification) = self.modified else { return Ok(()) };
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        futimens(file, &Timestamps { last_access, last_modification })?;
        check_time(&file.metadata()?, last_modification.tv_sec)
    }
}

/// A file system takes the nearest time that it has without a word.
fn check_time(status: &Status, seconds: i64) -> io::Result<()> {
    // Some have only every other second.
    if status.mtime().abs_diff(seconds) < 2 {
        return Ok(());
    }
    let has = modified_time(status);
    let message = format!("the file system does not have this time: the nearest is {has}");
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

/// Tells them of the file that is sent.
pub fn describe(status: &Status, headers: &mut HeaderMap) {
    let mode = format!("{:04o}", status.permissions().mode() & PERMISSIONS);
    for (name, value) in [(MODE, mode), (MTIME, modified_time(status))] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

fn parse_mode(text: &str) -> Option<u32> {
    let octal = (1..=4).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let mode = octal.then(|| u32::from_str_radix(text, 8).ok())??;
    (mode <= PERMISSIONS).then_some(mode)
}

fn parse_time(text: &str) -> Option<Timespec> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(Timespec { tv_sec: time.unix_timestamp(), tv_nsec: time.nanosecond().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Reason;

    #[test]
    fn a_mode_is_permission_bits_in_octal_and_nothing_else() {
        assert_eq!(parse_mode("0640"), Some(0o640));
        assert_eq!(parse_mode("755"), Some(0o755));
        assert_eq!(parse_mode("0"), Some(0));
        for text in ["", "4755", "1777", "888", "+644", "-1", "00644", "rwx"] {
            assert_eq!(parse_mode(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_that_a_file_has_not_is_an_error_that_says_which_it_has() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let status = file.as_file().metadata().unwrap();
        for far in [2, -2] {
            let error = check_time(&status, status.mtime() + far).unwrap_err();
            assert_eq!(Reason::of(&error), Reason::Unsupported);
            assert!(error.to_string().ends_with(&modified_time(&status)), "{error}");
        }
        for near in [-1, 0, 1] {
            check_time(&status, status.mtime() + near).unwrap();
        }
    }

    #[test]
    fn a_time_keeps_its_fraction() {
        let time = parse_time("1969-12-31T23:59:59.000000001Z").unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (-1, 1));
        assert!(parse_time("yesterday").is_none());
    }
}
