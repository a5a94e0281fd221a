//! Paths that a client sends: relative ones, `~`, `..`, and what must be refused.

use std::path::{Component, Path, PathBuf};

use crate::escape;

/// Longest path the kernel takes, with its closing NUL.
pub const PATH_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
pub enum BadPath {
    Empty,
    Nul,
    TooLong,
    OtherHome,
}

impl std::fmt::Display for BadPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "path is empty",
            Self::Nul => "path contains a NUL byte",
            Self::TooLong => "path is too long",
            Self::OtherHome => "cannot expand user-specific home dir",
        })
    }
}

/// Makes `path`, whose names are as [`escape`] writes them, absolute and lexically clean: `~` is `home`, a relative path starts at `base`.
///
/// `..` is resolved in the text, as envd does, and never leads above `/`.
pub fn resolve(path: &str, home: &Path, base: &Path) -> Result<PathBuf, BadPath> {
    if path.contains('\0') {
        return Err(BadPath::Nul);
    }
    let joined = match path.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => {
            home.join(escape::from_text(rest.trim_start_matches('/')))
        }
        Some(_) => return Err(BadPath::OtherHome),
        None if path.is_empty() => return Err(BadPath::Empty),
        None => base.join(escape::from_text(path)),
    };
    let clean = clean(&joined);
    if clean.as_os_str().len() >= PATH_MAX {
        return Err(BadPath::TooLong);
    }
    Ok(clean)
}

/// The absolute path without `.`, `..` and doubled slashes.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolved(path: &str) -> Result<String, BadPath> {
        resolve(path, Path::new("/home/bob"), Path::new("/base"))
            .map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn relative_paths_start_at_the_base_and_tilde_at_home() {
        assert_eq!(resolved("a/b").unwrap(), "/base/a/b");
        assert_eq!(resolved("~").unwrap(), "/home/bob");
        assert_eq!(resolved("~/a").unwrap(), "/home/bob/a");
        assert_eq!(resolved("~//a").unwrap(), "/home/bob/a");
        assert_eq!(resolved("/etc//x/./y").unwrap(), "/etc/x/y");
    }

    #[test]
    fn dot_dot_never_leads_above_the_root() {
        assert_eq!(resolved("/../../etc").unwrap(), "/etc");
        assert_eq!(resolved("../x").unwrap(), "/x");
    }

    #[test]
    fn refuses_what_cannot_be_a_path() {
        assert_eq!(resolved("a\0b"), Err(BadPath::Nul));
        assert_eq!(resolved(""), Err(BadPath::Empty));
        assert_eq!(resolved("~root/x"), Err(BadPath::OtherHome));
        assert_eq!(resolved(&"x/".repeat(3000)), Err(BadPath::TooLong));
    }

    proptest! {
        #[test]
        fn the_result_is_absolute_and_clean(path in "[a./~]{0,40}") {
            if let Ok(result) = resolved(&path) {
                prop_assert!(result.starts_with('/'));
                prop_assert!(!result.contains("//"));
                prop_assert!(!result.split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}
