//! Names of files that the agent makes for a moment beside others. No watch shows them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use rustix::rand::{GetRandomFlags, getrandom};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnName {
    /// Of an upload, until a rename makes it a file where there was none.
    Upload,
    /// Of an upload that a rename is about to put in the place of a file.
    Replacement,
    /// Of a part of a move between file systems.
    Move,
}

const PREFIXES: [(OwnName, &str); 3] = [
    (OwnName::Upload, ".perch-upload-"),
    (OwnName::Replacement, ".perch-replace-"),
    (OwnName::Move, ".perch-move-"),
];
const DIGITS: usize = 16;

impl OwnName {
    /// A name that nobody else has.
    pub fn make(self) -> io::Result<OsString> {
        let mut bytes = [0; DIGITS / 2];
        // Early in the life of a machine secure bytes may be a long wait; a name needs none.
        getrandom(&mut bytes, GetRandomFlags::INSECURE)?;
        let prefix = PREFIXES.iter().find(|(own, _)| *own == self).map_or("", |(_, prefix)| prefix);
        Ok(format!("{prefix}{:016x}", u64::from_ne_bytes(bytes)).into())
    }

    /// `None` for names that are not of this form.
    pub fn of(name: &OsStr) -> Option<Self> {
        PREFIXES.into_iter().find_map(|(own, prefix)| {
            let digits = name.as_bytes().strip_prefix(prefix.as_bytes())?;
            let own_form = digits.len() == DIGITS
                && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            own_form.then_some(own)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_of_which_kind_it_is() {
        for (own, _) in PREFIXES {
            assert_eq!(OwnName::of(&own.make().unwrap()), Some(own));
        }
    }

    #[test]
    fn names_of_others_are_not_the_agents() {
        for name in [
            "",
            "a",
            ".perch-upload-",
            ".perch-upload-0123456789abcdeg",
            "x.perch-move-0123456789abcdef",
        ] {
            assert_eq!(OwnName::of(OsStr::new(name)), None, "{name}");
        }
    }
}
