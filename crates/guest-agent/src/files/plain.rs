//! A file that is written from its beginning to its end, past the page cache where that can be.
//!
//! Going through the page cache costs a guest's processor several times what receiving the bytes
//! does, and fills its memory, and so its snapshots, with what is on the disk anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::batch::Batch;

pub struct PlainFile {
    file: File,
    /// `bytes`
    size: u64,
    way: Way,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Cached,
    Direct,
    /// The file system, or its disk, does not do direct output as it is done here.
    OnlyCached,
}

impl PlainFile {
    pub fn new(file: File) -> Self {
        Self { file, size: 0, way: Way::Cached }
    }

    /// Only whole batches go directly: a short file is likely to be read soon, and what is left of
    /// a long one does not fill its last block.
    pub fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let bytes = batch.bytes();
        self.choose(if batch.is_full() { Way::Direct } else { Way::Cached })?;
        let mut written = self.write(bytes);
        if self.way == Way::Direct && is_refusal(&written) {
            self.choose(Way::OnlyCached)?;
            written = self.write(bytes);
        }
        written?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub fn into_file(self) -> File {
        self.file
    }

    /// At the offset that it belongs to, so that a second attempt repairs the first.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.way != Way::Direct {
            // Grown first: ext4 puts a file's size down in its journal for each page that a write
            // grows it by, which costs more than the rest of the write.
            self.file.set_len(self.size + bytes.len() as u64)?;
        }
        self.file.write_all_at(bytes, self.size)
    }

    fn choose(&mut self, way: Way) -> io::Result<()> {
        if self.way == Way::OnlyCached || self.way == way {
            return Ok(());
        }
        let mut flags = fcntl_getfl(&self.file)?;
        flags.set(OFlags::DIRECT, way == Way::Direct);
        let set = fcntl_setfl(&self.file, flags).map_err(io::Error::from);
        self.way = if is_refusal(&set) { Way::OnlyCached } else { way };
        if self.way == way { set } else { Ok(()) }
    }
}

fn is_refusal(result: &io::Result<()>) -> bool {
    let number = result.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(number, Some(libc::EINVAL | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn copy(folder: &std::path::Path, bytes: &Bytes) {
        let path = tempfile::NamedTempFile::new_in(folder).unwrap();
        let mut file = PlainFile::new(path.reopen().unwrap());
        let (mut left, mut batch) = (bytes.clone(), Batch::new());
        while !left.is_empty() {
            batch.clear();
            batch.fill(&mut left);
            file.append(&batch).unwrap();
        }
        drop(file.into_file());
        assert!(std::fs::read(path.path()).unwrap() == *bytes);
    }

    #[test]
    fn every_length_arrives_on_every_file_system() {
        // A file system with direct output is as good here as one without.
        for folder in [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()] {
            for length in [0, 1, Batch::SIZE - 1, Batch::SIZE, 2 * Batch::SIZE + 5000] {
                copy(&folder, &(0..length).map(|i| (i / 3) as u8).collect());
            }
        }
    }
}
