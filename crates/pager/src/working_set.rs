//! The pages that a machine asked for after a restore, in that order: what its next restore will
//! ask for.
//!
//! A file of u32, little-endian, behind eight bytes that name the format. Each is the number of
//! the page that a fault was at. Whatever stands there is only a hint: it says which pages are
//! read first, and never what is in them.

use std::{fs::File, io::Read, os::unix::fs::FileExt};

use crate::{Error, PAGE, Result, page_set::PageSet};

const FORMAT: &[u8; 8] = b"PERCHWS1";
/// Pages of a record: with 64 KiB around each, those of 4 GiB.
const MOST: usize = 1 << 16;

/// Keeps the record of this restore.
pub struct Recorder {
    file: File,
    pages: Vec<u32>,
    written: usize,
}

impl Recorder {
    pub fn new(file: File) -> Result<Self> {
        file.write_all_at(FORMAT, 0)
            .map_err(|error| Error::of("cannot write the working set", error))?;
        Ok(Self { file, pages: Vec::new(), written: 0 })
    }

    /// Whether it was taken in: a record has an end.
    pub fn note(&mut self, page: u32) -> bool {
        let has_room = self.pages.len() < MOST;
        if has_room {
            self.pages.push(page);
        }
        has_room
    }

    pub fn is_behind(&self) -> bool {
        self.written < self.pages.len()
    }

    /// Writes what is new. A record that cannot be written is none the next time, and no reason
    /// to end a machine.
    pub fn flush(&mut self) {
        let bytes: Vec<u8> =
            self.pages[self.written..].iter().flat_map(|page| page.to_le_bytes()).collect();
        let at = FORMAT.len() + self.written * size_of::<u32>();
        if let Err(error) = self.file.write_all_at(&bytes, at as u64) {
            eprintln!("perch-pager: cannot write the working set: {error}");
        }
        self.written = self.pages.len();
    }
}

/// Windows that are to be filled before anybody asks for them.
#[derive(Default)]
pub struct Plan {
    /// Pages in the windows, the last first.
    rest: Vec<u32>,
}

impl Plan {
    /// Takes each window once, and windows of `limit` bytes at most.
    ///
    /// @param pages of the memory
    /// @param window_pages pages of a window
    pub fn read(file: &File, pages: u32, window_pages: u32, limit: u64) -> Result<Self> {
        let mut bytes = Vec::new();
        let most = FORMAT.len() + MOST * size_of::<u32>();
        file.take(most as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::of("cannot read the working set", error))?;
        Ok(Self::of(&bytes, pages, window_pages, limit))
    }

    fn of(bytes: &[u8], pages: u32, window_pages: u32, limit: u64) -> Self {
        let Some(rest) = bytes.strip_prefix(FORMAT) else { return Self::default() };
        let mut seen = PageSet::new(pages / window_pages + 1);
        let most = limit / (u64::from(window_pages) * PAGE as u64);
        let recorded = rest
            .chunks_exact(4)
            .map(|page| u32::from_le_bytes(page.try_into().expect("four bytes")));
        let wanted = recorded.filter(|page| *page < pages && seen.insert(page / window_pages));
        let mut rest: Vec<u32> = wanted.take(usize::try_from(most).unwrap_or(MOST)).collect();
        rest.reverse();
        Self { rest }
    }

    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// A page of the window that is next.
    pub fn next(&self) -> Option<u32> {
        self.rest.last().copied()
    }

    pub fn advance(&mut self) {
        self.rest.pop();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(pages: &[u32]) -> Vec<u8> {
        [FORMAT.to_vec(), pages.iter().flat_map(|page| page.to_le_bytes()).collect()].concat()
    }

    fn all(mut plan: Plan) -> Vec<u32> {
        std::iter::from_fn(|| plan.next().inspect(|_| plan.advance())).collect()
    }

    #[test]
    fn each_window_comes_once_in_the_order_of_the_record() {
        let bytes = file(&[70, 3, 64, 2, 200, 16]);
        assert_eq!(all(Plan::of(&bytes, 128, 16, 1 << 30)), [70, 3, 16]);
    }

    #[test]
    fn no_more_is_taken_than_the_limit() {
        let bytes = file(&[0, 16, 32, 48]);
        assert_eq!(all(Plan::of(&bytes, 128, 16, 2 * 65536)), [0, 16]);
        assert_eq!(all(Plan::of(&bytes, 128, 16, 0)), [] as [u32; 0]);
    }

    #[test]
    fn a_record_that_is_read_again_is_the_same_and_has_an_end() {
        let file = tempfile::tempfile().unwrap();
        let mut recorder = Recorder::new(file.try_clone().unwrap()).unwrap();
        assert!(recorder.note(5));
        recorder.flush();
        assert!(!recorder.is_behind());
        for page in 6..5 + MOST as u32 {
            assert!(recorder.note(page));
        }
        assert!(!recorder.note(1));
        recorder.flush();
        let found = all(Plan::read(&file, 2 * MOST as u32, 1, u64::MAX).unwrap());
        assert_eq!(found, (5..5 + MOST as u32).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn whatever_the_file_holds_a_plan_has_pages_of_the_memory_only(
            bytes in prop::collection::vec(any::<u8>(), 0..200), named in any::<bool>(),
        ) {
            let bytes = if named { [FORMAT.to_vec(), bytes].concat() } else { bytes };
            let found = all(Plan::of(&bytes, 1 << 20, 16, u64::MAX));
            prop_assert!(found.iter().all(|page| *page < 1 << 20));
            prop_assert!(found.len() <= bytes.len() / 4);
        }
    }
}
