//! A chain of memfiles beside the memory that it is, page by page.

use std::{fs::File, io::Write, os::unix::fs::FileExt};

use perch_pager::PAGE;
use tempfile::TempDir;

use super::random::Random;

pub type Id = [u8; 16];

pub struct TestChain {
    pub header: Vec<u8>,
    pub memfiles: Vec<(Id, Vec<u8>)>,
    /// The model.
    pub memory: Vec<u8>,
}

/// As the header has it; an id of zeros is zeros.
pub struct TestEntry {
    pub pages: u32,
    pub build: Id,
    pub storage: u64,
}

impl TestChain {
    /// Runs of up to `longest` pages of `builds` builds and of zeros.
    pub fn random(random: &mut Random, pages: u32, builds: u8, longest: u64) -> Self {
        let mut memfiles: Vec<(Id, Vec<u8>)> =
            (1..=builds).map(|build| ([build; 16], Vec::new())).collect();
        let mut memory = Vec::new();
        let mut entries = Vec::new();
        let mut page = 0;
        while page < pages {
            let count = (1 + random.below(longest) as u32).min(pages - page);
            let bytes = count as usize * PAGE;
            let owner = random.below(u64::from(builds) + 1) as usize;
            if owner == 0 {
                // The place of zeros means nothing, and writers differ in it.
                entries.push(TestEntry { pages: count, build: [0; 16], storage: random.next() });
                memory.resize(memory.len() + bytes, 0);
            } else {
                let (build, file) = &mut memfiles[owner - 1];
                let fits = file.len() >= bytes && random.below(4) == 0;
                let storage = if fits {
                    random.below(((file.len() - bytes) / PAGE) as u64 + 1) as usize * PAGE
                } else {
                    let storage = file.len() + random.below(3) as usize * PAGE;
                    file.resize(storage, 7);
                    (0..count).for_each(|_| file.extend_from_slice(&random_page(random)));
                    storage
                };
                entries.push(TestEntry { pages: count, build: *build, storage: storage as u64 });
                memory.extend_from_slice(&file[storage..storage + bytes]);
            }
            page += count;
        }
        Self { header: encode(pages, &entries), memfiles, memory }
    }

    /// A random one in one file.
    pub fn flat(random: &mut Random, pages: u32) -> Self {
        let memory: Vec<u8> = (0..pages).flat_map(|_| random_page(random)).collect();
        let entry = TestEntry { pages, build: [1; 16], storage: 0 };
        Self { header: encode(pages, &[entry]), memfiles: vec![([1; 16], memory.clone())], memory }
    }

    pub fn pages(&self) -> u32 {
        (self.memory.len() / PAGE) as u32
    }

    pub fn page(&self, page: u32) -> &[u8] {
        &self.memory[page as usize * PAGE..][..PAGE]
    }

    /// Pages that are not all zeros.
    pub fn full_pages(&self) -> u64 {
        (0..self.pages()).filter(|page| self.page(*page) != [0; PAGE]).count() as u64
    }

    /// Header and memfiles as files that can only be read.
    ///
    /// @param hole bytes of zeros behind each memfile
    pub fn files(&self, dir: &TempDir, hole: u64) -> (File, Vec<(Id, File)>) {
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            let mut file = File::create(&path).unwrap();
            file.write_all(bytes).unwrap();
            if name != "memfile.header" {
                file.set_len(bytes.len() as u64 + hole).unwrap();
            }
            File::open(path).unwrap()
        };
        let memfiles = self.memfiles.iter().enumerate();
        let memfiles = memfiles
            .map(|(at, (id, bytes))| (*id, file(&format!("memfile-{at}"), bytes)))
            .collect();
        (file("memfile.header", &self.header), memfiles)
    }
}

/// Some are zeros, and some differ from zeros in one byte.
fn random_page(random: &mut Random) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    match random.below(4) {
        0 => {}
        1 => page[random.below(PAGE as u64) as usize] = 1,
        _ => page
            .chunks_exact_mut(8)
            .for_each(|word| word.copy_from_slice(&random.next().to_le_bytes())),
    }
    page
}

pub fn encode(pages: u32, entries: &[TestEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [1, PAGE as u64, u64::from(pages) * PAGE as u64, 3] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&[9; 16]);
    bytes.extend_from_slice(&[1; 16]);
    let mut offset = 0;
    for entry in entries {
        let length = u64::from(entry.pages) * PAGE as u64;
        bytes.extend_from_slice(&u64::to_le_bytes(offset));
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&entry.build);
        bytes.extend_from_slice(&entry.storage.to_le_bytes());
        offset += length;
    }
    bytes
}

/// A file without a name.
pub fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}
