//! `memfile.header`: which build holds which part of the memory.
//!
//! Little-endian. 64 bytes: version u64 = 1, block size u64 = 4096, memory size u64, generation
//! u64, build id 16 bytes, base build id 16 bytes. Then entries of 40 bytes to the end: offset
//! u64, length u64, build id 16 bytes (all zero: zero-filled), storage offset u64; sorted, without
//! gaps, to the end of the memory.
//!
//! A header may have an entry for each page, which is more than this program may occupy. So the
//! file is read once in full, and checked. Only where each block of entries begins is kept. A
//! look-up searches among those, and in one block that it reads.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt};

use crate::{Error, MAX_PAGES, PAGE, Result};

const HEAD: usize = 64;
const ENTRY: usize = 40;
/// Entries of a block.
const BLOCK: usize = 64;
/// As many as the writer of headers allows.
const MAX_BUILDS: usize = 4096;
/// Every page of the largest memory in an entry of its own.
const MAX_ENTRIES: u64 = MAX_PAGES as u64;

pub type BuildId = [u8; 16];
const ZEROS: BuildId = [0; 16];

/// Pages beside each other that one build holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first page, and the one behind the last.
    pub start: u32,
    pub end: u32,
    pub content: Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Zeros,
    /// `offset` is where `start` lies in the memfile of [`Header::builds`]`[build]`, in bytes.
    Stored {
        build: u16,
        offset: u64,
    },
}

pub struct Header {
    file: File,
    pages: u32,
    entries: u32,
    /// First page of each block.
    blocks: Vec<u32>,
    builds: HashMap<BuildId, Build>,
    /// The block that was read last.
    block: Box<[u8; BLOCK * ENTRY]>,
    number: usize,
}

#[derive(Clone, Copy)]
struct Build {
    index: u16,
    /// How long its memfile must at least be.
    bytes: u64,
}

impl Header {
    /// Reads and checks all of it.
    pub fn open(file: File) -> Result<Self> {
        let length =
            file.metadata().map_err(|error| Error::of("cannot look at the header", error))?.len();
        let mut head = [0; HEAD];
        file.read_exact_at(&mut head, 0).map_err(|error| damaged(format!("its head: {error}")))?;
        let (version, block, memory) = (u64_at(&head, 0), u64_at(&head, 8), u64_at(&head, 16));
        if version != 1 || block != PAGE as u64 {
            return Err(damaged(format!("version {version} with blocks of {block} bytes")));
        }
        let most = u64::from(MAX_PAGES) * PAGE as u64;
        if memory == 0 || memory > most || memory % PAGE as u64 != 0 {
            return Err(damaged(format!("a memory of {memory} bytes, of at most {most}")));
        }
        let rest = length - HEAD as u64;
        let entries = rest / ENTRY as u64;
        if rest % ENTRY as u64 != 0 || entries == 0 || entries > MAX_ENTRIES {
            return Err(damaged(format!("{rest} bytes of entries")));
        }
        let mut header = Self {
            file,
            pages: (memory / PAGE as u64) as u32,
            entries: entries as u32,
            blocks: Vec::with_capacity((entries as usize).div_ceil(BLOCK)),
            builds: HashMap::new(),
            block: Box::new([0; BLOCK * ENTRY]),
            number: usize::MAX,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&mut self) -> Result<()> {
        let mut due = 0;
        for number in 0..(self.entries as usize).div_ceil(BLOCK) {
            let count = self.load(number)?;
            self.blocks.push(due);
            for at in 0..count {
                let raw = Raw::at(&self.block[..], at);
                if raw.offset != u64::from(due) * PAGE as u64 {
                    return Err(damaged(format!(
                        "an entry at {}, where page {due} is due",
                        raw.offset
                    )));
                }
                due = raw.end_page(self.pages)?;
                if raw.build != ZEROS {
                    self.take(&raw)?;
                }
            }
        }
        if due != self.pages {
            return Err(damaged(format!("{due} of {} pages", self.pages)));
        }
        Ok(())
    }

    fn take(&mut self, raw: &Raw) -> Result<()> {
        let bytes = raw.storage.checked_add(raw.length).filter(|end| *end < 1 << 53);
        let Some(bytes) = bytes.filter(|_| raw.storage % PAGE as u64 == 0) else {
            return Err(damaged(format!("an entry stored at {}", raw.storage)));
        };
        let index = self.builds.len();
        let build = self.builds.entry(raw.build).or_insert(Build { index: index as u16, bytes: 0 });
        build.bytes = build.bytes.max(bytes);
        if self.builds.len() > MAX_BUILDS {
            return Err(damaged(format!("more than {MAX_BUILDS} builds")));
        }
        Ok(())
    }

    /// Pages of the memory.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The builds by their index, each with the bytes that its memfile has at least.
    pub fn builds(&self) -> Vec<(BuildId, u64)> {
        let mut builds = vec![(ZEROS, 0); self.builds.len()];
        for (id, build) in &self.builds {
            builds[usize::from(build.index)] = (*id, build.bytes);
        }
        builds
    }

    /// The entry that has the page.
    ///
    /// # Errors
    /// When the file cannot be read, or is another than it was.
    pub fn find(&mut self, page: u32) -> Result<Entry> {
        let number = self.blocks.partition_point(|start| *start <= page).wrapping_sub(1);
        let count = if number == self.number { self.count(number) } else { self.load(number)? };
        let offset = u64::from(page) * PAGE as u64;
        let (mut low, mut high) = (0, count);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if u64_at(&self.block[..], middle * ENTRY) <= offset {
                low = middle
            } else {
                high = middle
            }
        }
        let raw = Raw::at(&self.block[..], low);
        let start = u32::try_from(raw.offset / PAGE as u64).map_err(|_| changed())?;
        let end = raw.end_page(self.pages)?;
        if !(start..end).contains(&page) {
            return Err(changed());
        }
        let content = if raw.build == ZEROS {
            Content::Zeros
        } else {
            let build = self.builds.get(&raw.build).ok_or_else(changed)?;
            Content::Stored { build: build.index, offset: raw.storage }
        };
        Ok(Entry { start, end, content })
    }

    fn count(&self, number: usize) -> usize {
        (self.entries as usize - number * BLOCK).min(BLOCK)
    }

    /// Reads a block. Gives the number of its entries.
    fn load(&mut self, number: usize) -> Result<usize> {
        if number >= (self.entries as usize).div_ceil(BLOCK) {
            return Err(Error::new("a page outside of the memory was looked up"));
        }
        self.number = usize::MAX;
        let count = self.count(number);
        let at = HEAD + number * BLOCK * ENTRY;
        self.file
            .read_exact_at(&mut self.block[..count * ENTRY], at as u64)
            .map_err(|error| Error::of("cannot read the header", error))?;
        self.number = number;
        Ok(count)
    }
}

struct Raw {
    offset: u64,
    length: u64,
    build: BuildId,
    storage: u64,
}

impl Raw {
    fn at(block: &[u8], index: usize) -> Self {
        let bytes = &block[index * ENTRY..(index + 1) * ENTRY];
        let mut build = ZEROS;
        build.copy_from_slice(&bytes[16..32]);
        Self {
            offset: u64_at(bytes, 0),
            length: u64_at(bytes, 8),
            build,
            storage: u64_at(bytes, 32),
        }
    }

    fn end_page(&self, pages: u32) -> Result<u32> {
        let page = PAGE as u64;
        let end = self.offset.checked_add(self.length).filter(|_| self.length > 0);
        match end {
            Some(end) if end % page == 0 && end / page <= u64::from(pages) => {
                Ok((end / page) as u32)
            }
            _ => Err(damaged(format!("an entry of {} bytes at {}", self.length, self.offset))),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

fn damaged(found: String) -> Error {
    Error(format!("the header is damaged: it has {found}"))
}

fn changed() -> Error {
    Error::new("the header is another than it was at the start")
}
