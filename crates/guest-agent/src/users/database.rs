//! The formats of passwd(5) and group(5).

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A larger file is cut: the guest's root writes it, and the agent holds it in memory.
const MAX_BYTES: u64 = 1 << 20;

pub struct Passwd<'a> {
    pub name: &'a str,
    pub uid: u32,
    pub gid: u32,
    pub home: &'a str,
    pub shell: &'a str,
}

pub struct Group<'a> {
    pub name: &'a str,
    pub gid: u32,
    /// Names with commas between them.
    pub members: &'a str,
}

/// The file's text; empty when there is none.
pub fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // The entries before an error are still worth having.
        let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The well-formed entries `name:password:uid:gid:gecos:home:shell`.
pub fn passwd(text: &str) -> impl Iterator<Item = Passwd<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [name, _, uid, gid, _, home, shell] if !name.is_empty() && !name.starts_with('#') => {
                Some(Passwd { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home, shell })
            }
            _ => None,
        }
    })
}

/// The well-formed entries `name:password:gid:members`.
pub fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [name, _, gid, members] if !name.is_empty() && !name.starts_with('#') => {
                Some(Group { name, gid: gid.parse().ok()?, members })
            }
            _ => None,
        }
    })
}
