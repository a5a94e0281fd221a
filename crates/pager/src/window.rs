//! The pages around a fault, read and told apart.

use std::ops::Range;

use crate::{PAGE, Result, chain::Chain, header::Content, page_set::PageSet};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not to be put in place.
    Left,
    Zeros,
    Bytes,
}

/// Pages beside each other that are put in place by one call.
#[derive(Debug, PartialEq, Eq)]
pub enum Run<'a> {
    Zeros { page: u32, pages: u32 },
    Bytes { page: u32, bytes: &'a [u8] },
}

pub struct Window {
    first: u32,
    bytes: Vec<u8>,
    kinds: Vec<Kind>,
}

impl Window {
    /// @param pages the most that are read at once
    pub fn new(pages: u32) -> Self {
        let pages = pages as usize;
        Self { first: 0, bytes: vec![0; pages * PAGE], kinds: Vec::with_capacity(pages) }
    }

    /// Reads pages, of which those that the guest gave back are left out.
    pub fn load(&mut self, chain: &mut Chain, pages: Range<u32>, removed: &PageSet) -> Result<()> {
        self.first = pages.start;
        self.kinds.clear();
        let mut page = pages.start;
        while page < pages.end {
            let entry = chain.find(page)?;
            let end = entry.end.min(pages.end);
            if entry.content == Content::Zeros {
                self.kinds.extend((page..end).map(|_| Kind::Zeros));
            } else {
                let into = &mut self.bytes[place(page - pages.start)..place(end - pages.start)];
                chain.read(&entry, page, into)?;
                let zeros = into.chunks_exact(PAGE).map(|bytes| bytes == [0; PAGE]);
                self.kinds.extend(zeros.map(|zeros| if zeros { Kind::Zeros } else { Kind::Bytes }));
            }
            page = end;
        }
        for (kind, page) in self.kinds.iter_mut().zip(pages) {
            if removed.has(page) {
                *kind = Kind::Left;
            }
        }
        Ok(())
    }

    /// In the order of the guest's memory.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let mut at = 0;
        self.kinds.chunk_by(|a, b| a == b).filter_map(move |kinds| {
            let (start, pages) = (at, kinds.len() as u32);
            at += pages;
            let page = self.first + start;
            match kinds[0] {
                Kind::Left => None,
                Kind::Zeros => Some(Run::Zeros { page, pages }),
                Kind::Bytes => {
                    Some(Run::Bytes { page, bytes: &self.bytes[place(start)..place(at)] })
                }
            }
        })
    }
}

/// Where a page of the window begins.
fn place(page: u32) -> usize {
    page as usize * PAGE
}
