//! Hostname and machine id. Clones of one snapshot must not share them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub const HOSTNAME_FILE: &str = "/etc/hostname";
const HOSTS_FILE: &str = "/etc/hosts";
const MACHINE_ID_FILE: &str = "/etc/machine-id";
/// Where programs look that are written for E2B and get no environment of ours.
pub const MARKERS: &str = "/run/e2b";
const PAGE: usize = 4096;

/// Sets the kernel's name and both files that repeat it.
pub fn set_hostname(name: &str) -> io::Result<()> {
    rustix::system::sethostname(name.as_bytes())?;
    write_if_changed(Path::new(HOSTNAME_FILE), &format!("{name}\n"), 0o644)?;
    let hosts = match fs::read_to_string(HOSTS_FILE) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        other => other?,
    };
    write_if_changed(Path::new(HOSTS_FILE), &with_own_name(&hosts, name), 0o644)
}

pub fn set_machine_id(id: &str) -> io::Result<()> {
    write_if_changed(Path::new(MACHINE_ID_FILE), &format!("{id}\n"), 0o444)
}

/// Writes each marker to a file of its name with a dot before it.
pub fn set_markers(folder: &Path, markers: &BTreeMap<String, String>) -> io::Result<()> {
    let write = |name: &String, value: &String| {
        write_if_changed(&folder.join(format!(".{name}")), value, 0o644)
    };
    for (name, value) in markers {
        match write(name, value) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(folder)?;
                write(name, value)?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// As hostname(7) and the kernel (64 bytes) allow.
pub fn is_hostname(name: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(allowed) && !label.starts_with('-')
    };
    name.len() <= 64 && name.split('.').all(label)
}

/// As machine-id(5) says: 32 lower-case hexadecimal digits, not all zero.
pub fn is_machine_id(id: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    id.len() == 32 && id.bytes().all(digit) && id.bytes().any(|b| b != b'0')
}

/// The hosts file with the name on 127.0.1.1, as Debian does, in place of an earlier one.
fn with_own_name(hosts: &str, name: &str) -> String {
    let address = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        hosts.lines().filter(|line| address(line) != "127.0.1.1").map(String::from).collect();
    if !lines.iter().any(|line| address(line) == "127.0.0.1") {
        lines.insert(0, "127.0.0.1\tlocalhost".into());
    }
    lines.push(format!("127.0.1.1\t{name}"));
    lines.join("\n") + "\n"
}

/// Writes the file over in its place or replaces it whole: no reader sees half of it, and no link is
/// followed. Its mode is `mode` when it is replaced.
pub fn write_if_changed(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if text.len() <= PAGE && overwrite(path, text).unwrap_or(false) {
        return Ok(());
    }
    let mut temporary = PathBuf::from(path).into_os_string();
    temporary.push(".perch-new");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&temporary, path)
}

/// Writes over a file that is as long as the text, in one go within a page. That spares the file
/// system a new file and a rename, which are most of what a name costs a guest that has just been
/// restored.
///
/// Returns whether the file says `text` now.
fn overwrite(path: &Path, text: &str) -> io::Result<bool> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 || found.len() != text.len() as u64 {
        return Ok(false);
    }
    let mut current = vec![0; text.len()];
    file.read_exact_at(&mut current, 0)?;
    if current != text.as_bytes() {
        file.write_all_at(text.as_bytes(), 0)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_names_only_the_present_host() {
        let first = with_own_name("127.0.0.1 localhost\n::1 localhost ip6\n", "one");
        assert_eq!(first, "127.0.0.1 localhost\n::1 localhost ip6\n127.0.1.1\tone\n");
        let second = with_own_name(&first, "two");
        assert_eq!(second, "127.0.0.1 localhost\n::1 localhost ip6\n127.0.1.1\ttwo\n");
        assert_eq!(with_own_name(&second, "two"), second);
        assert_eq!(with_own_name("", "x"), "127.0.0.1\tlocalhost\n127.0.1.1\tx\n");
    }

    #[test]
    fn names_pass_an_allow_list() {
        assert!(is_hostname("a-1.example"));
        for bad in ["", "a..b", "-a", "a b", "a\nb", "ä", &"a".repeat(65)] {
            assert!(!is_hostname(bad), "{bad}");
        }
        assert!(is_machine_id("0123456789abcdef0123456789abcdef"));
        for bad in ["", "0123456789ABCDEF0123456789abcdef", &"0".repeat(32), &"a".repeat(31)] {
            assert!(!is_machine_id(bad), "{bad}");
        }
    }

    #[test]
    fn markers_are_files_that_say_the_present_value() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("e2b");
        for value in ["one", "other"] {
            set_markers(&folder, &BTreeMap::from([("ID".into(), value.into())])).unwrap();
            assert_eq!(fs::read_to_string(folder.join(".ID")).unwrap(), value);
        }
    }

    #[test]
    fn a_changed_file_replaces_a_link_instead_of_following_it() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_if_changed(&link, "new", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_eq!(fs::read_to_string(&link).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn a_file_of_the_same_length_is_written_over_and_one_with_another_name_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("file"), folder.path().join("other"));
        let inode = || fs::metadata(&file).unwrap().ino();
        write_if_changed(&file, "one", 0o444).unwrap();
        let before = inode();
        write_if_changed(&file, "two", 0o444).unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap(), inode()), ("two".into(), before));
        write_if_changed(&file, "three", 0o444).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "three");
        fs::hard_link(&file, &other).unwrap();
        write_if_changed(&file, "seven", 0o444).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "seven");
        assert_eq!(fs::read_to_string(&other).unwrap(), "three");
    }
}
