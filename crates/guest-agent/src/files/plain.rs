//! A file that is written from its beginning to its end, past the page cache where that can be.
//!
//! Going through the page cache costs a guest's processor several times what receiving the bytes
//! does, and fills its memory, and so its snapshots, with what is on the disk anyway.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use super::batch::Batch;

/// How far a file is grown ahead of its content when nobody knows how long it will be, `bytes`.
const AHEAD: u64 = 64 << 20;

pub struct PlainFile {
    ways: Arc<Ways>,
    /// Up to the end of the furthest batch that was begun, `bytes`.
    size: u64,
    /// The length that the file has by now, or is to have in the end, `bytes`.
    grown: u64,
}

/// The same file, opened twice.
struct Ways {
    cached: File,
    /// Missing where the file system, or its disk, does no direct output.
    direct: Option<File>,
}

impl PlainFile {
    /// `file` is new. It is opened again by its descriptor: whoever owns its directory may have put another thing there.
    pub fn new(file: File) -> Self {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok();
        Self { ways: Arc::new(Ways { cached: file, direct }), size: 0, grown: 0 }
    }

    /// A batch of the file, in whatever order they come; each may be written beside the others. The batches of a file are
    /// full but for its last one.
    pub fn begin(&mut self, batch: Batch, offset: u64) -> io::Result<Piece> {
        self.size = self.size.max(offset + batch.bytes().len() as u64);
        // Grown first: ext4 puts a file's size down in its journal for each write, and each page of the cache, that grows
        // it, and lets only one write at a time do so.
        let wanted = if batch.is_full() { self.size.next_multiple_of(AHEAD) } else { self.size };
        if self.grown < wanted {
            self.grown = wanted;
            if self.ways.cached.set_len(wanted).is_err() {
                // Beyond what the file system, or a limit, has for one file.
                self.ways.cached.set_len(self.size)?;
                self.grown = self.size;
            }
        }
        Ok(Piece { ways: Arc::clone(&self.ways), offset, batch })
    }

    /// All pieces must have been written.
    pub fn into_file(self) -> io::Result<File> {
        if self.grown != self.size {
            self.ways.cached.set_len(self.size)?;
        }
        match Arc::try_unwrap(self.ways) {
            Ok(ways) => Ok(ways.cached),
            Err(shared) => shared.cached.try_clone(),
        }
    }
}

/// A batch, and where it belongs.
pub struct Piece {
    ways: Arc<Ways>,
    offset: u64,
    batch: Batch,
}

impl Piece {
    /// Gives back the memory. Only whole batches go directly: a short file is likely to be read soon, and what is left of
    /// a long one does not fill its last block.
    pub fn write(self) -> io::Result<Batch> {
        let Self { ways, offset, batch } = self;
        let direct = ways.direct.as_ref().filter(|_| batch.is_full());
        match direct.map(|file| file.write_all_at(batch.bytes(), offset)) {
            // At the offset that it belongs to, so that a second attempt repairs the first.
            Some(written) if !is_refusal(&written) => written?,
            _ => ways.cached.write_all_at(batch.bytes(), offset)?,
        }
        Ok(batch)
    }
}

fn is_refusal(result: &io::Result<()>) -> bool {
    let number = result.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(number, Some(libc::EINVAL | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use bytes::Bytes;

    use super::*;

    fn copy(folder: &std::path::Path, bytes: &Bytes) {
        let path = tempfile::NamedTempFile::new_in(folder).unwrap();
        let mut file = PlainFile::new(path.reopen().unwrap());
        let (mut left, mut batches) = (bytes.clone(), Vec::new());
        while !left.is_empty() {
            let mut batch = Batch::new();
            let offset = (bytes.len() - left.len()) as u64;
            batch.fill(&mut left);
            batches.push((batch, offset));
        }
        // In whatever order they begin, and come to their end.
        let begun = batches.into_iter().rev().map(|(batch, offset)| file.begin(batch, offset));
        for piece in begun.collect::<Vec<_>>().into_iter().rev() {
            piece.unwrap().write().unwrap();
        }
        drop(file.into_file().unwrap());
        assert!(std::fs::read(path.path()).unwrap() == *bytes);
    }

    #[test]
    fn what_takes_the_place_of_a_file_gets_nothing_of_it() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
        std::fs::write(&theirs, "").unwrap();
        let created = File::create_new(&ours).unwrap();
        std::fs::remove_file(&ours).unwrap();
        std::os::unix::fs::symlink(&theirs, &ours).unwrap();
        let mut file = PlainFile::new(created);
        let mut batch = Batch::new();
        batch.fill(&mut Bytes::from(vec![1; Batch::SIZE]));
        file.begin(batch, 0).unwrap().write().unwrap();
        let written = file.into_file().unwrap();
        assert_eq!(written.metadata().unwrap().len(), Batch::SIZE as u64);
        assert!(written.metadata().unwrap().blocks() > 0);
        assert!(std::fs::read(&theirs).unwrap().is_empty());
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
