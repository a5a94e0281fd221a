//! The mount points of a path and below it, without which a removal would empty other file systems.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

const TABLE: &str = "/proc/self/mountinfo";

/// Whether something is mounted at `path`, or below it. The last name of `path` is not followed if it is a link.
pub fn holds_mount(path: &Path) -> io::Result<bool> {
    let real = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => parent.canonicalize()?.join(name),
        _ => path.to_owned(),
    };
    let table = fs::read(TABLE)
        .map_err(|error| io::Error::other(format!("{TABLE} cannot be read: {error}")))?;
    Ok(points(&table).any(|point| point.starts_with(&real)))
}

/// See proc_pid_mountinfo(5).
fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    let fields = table.split(|byte| *byte == b'\n');
    fields.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped)
}

/// A byte that would end a field is written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let byte = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                rest = &after[3..];
                (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')
            }
            _ => {
                rest = after;
                *first
            }
        };
        bytes.push(byte);
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_mount_point_is_read_with_its_escapes() {
        let table = b"22 1 0:5 / /proc rw - proc proc rw\n\
            23 1 8:1 /a\\040b /a\\040b\\011c\\012d\\134040\xff rw,x shared:1 - ext4 /dev/vda rw\n";
        let found: Vec<PathBuf> = points(table).collect();
        let odd = std::ffi::OsStr::from_bytes(b"/a b\tc\nd\\040\xff");
        assert_eq!(found, [Path::new("/proc"), Path::new(odd)]);
    }

    #[test]
    fn a_mount_is_held_by_its_own_path_and_those_above_it() {
        assert!(holds_mount(Path::new("/proc")).unwrap());
        assert!(holds_mount(Path::new("/")).unwrap());
        assert!(!holds_mount(Path::new("/pro")).unwrap());
        assert!(!holds_mount(Path::new("/proc/self/task")).unwrap());
    }
}
