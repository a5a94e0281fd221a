//! `Range: bytes=…`, with one range.

use std::ops::Range;

/// The part of a file that a `Range` header asks for, of a file of `size` bytes. `None`: the whole file (no range, or
/// one of a form that may be ignored). `Err`: nothing that the file has.
pub fn parse(header: Option<&str>, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (first, last) = header?.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => size.saturating_sub(suffix.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start < range.end { Ok(range) } else { Err(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_forms() {
        assert_eq!(parse(Some("bytes=2-4"), 10), Some(Ok(2..5)));
        assert_eq!(parse(Some("bytes=2-"), 10), Some(Ok(2..10)));
        assert_eq!(parse(Some("bytes=-3"), 10), Some(Ok(7..10)));
        assert_eq!(parse(Some("bytes=0-99"), 10), Some(Ok(0..10)));
        assert_eq!(parse(Some("bytes=-99"), 10), Some(Ok(0..10)));
    }

    #[test]
    fn beyond_the_end_is_not_satisfiable() {
        assert_eq!(parse(Some("bytes=10-"), 10), Some(Err(())));
        assert_eq!(parse(Some("bytes=-0"), 10), Some(Err(())));
        assert_eq!(parse(Some("bytes=0-"), 0), Some(Err(())));
    }

    #[test]
    fn other_forms_are_ignored() {
        for header in ["bytes=4-2", "bytes=1-2,4-5", "lines=1-2", "bytes=a-b", "bytes=5"] {
            assert_eq!(parse(Some(header), 10), None, "{header}");
        }
        assert_eq!(parse(None, 10), None);
    }
}
