//! The memfiles of all builds that a header names.

use std::{collections::HashMap, fs::File, os::unix::fs::FileExt};

use crate::{
    Error, PAGE, Result,
    header::{BuildId, Content, Entry, Header},
};

pub struct Chain {
    header: Header,
    /// By the index that the header gives to a build.
    memfiles: Vec<File>,
}

impl Chain {
    /// # Errors
    /// When the header names a build that is not there, or more of it than its memfile has.
    pub fn new(header: Header, mut memfiles: HashMap<BuildId, File>) -> Result<Self> {
        let mut found = Vec::new();
        for (build, bytes) in header.builds() {
            let name = format!("{:032x}", u128::from_be_bytes(build));
            let Some(file) = memfiles.remove(&build) else {
                return Err(Error(format!("the memfile of build {name} is missing")));
            };
            let metadata =
                file.metadata().map_err(|error| Error::of("cannot look at a memfile", error))?;
            if !metadata.is_file() || metadata.len() < bytes {
                return Err(Error(format!(
                    "the memfile of build {name} is no file of {bytes} bytes"
                )));
            }
            found.push(file);
        }
        Ok(Self { header, memfiles: found })
    }

    /// Pages of the memory.
    pub fn pages(&self) -> u32 {
        self.header.pages()
    }

    /// The entry that has the page.
    pub fn find(&mut self, page: u32) -> Result<Entry> {
        self.header.find(page)
    }

    /// Reads pages of an entry, from `page` on.
    pub fn read(&self, entry: &Entry, page: u32, into: &mut [u8]) -> Result<()> {
        let Content::Stored { build, offset } = entry.content else {
            into.fill(0);
            return Ok(());
        };
        let at = offset + u64::from(page - entry.start) * PAGE as u64;
        self.memfiles[usize::from(build)]
            .read_exact_at(into, at)
            .map_err(|error| Error::of("cannot read a memfile", error))
    }
}
