//! A piece of an upload, in memory that a disk can take it from.

use bytes::{Buf, Bytes};

/// Where memory and offsets of direct input and output begin. No disk in use wants more.
pub const BLOCK: usize = 4096;

/// Filled and written again and again: memory that is new each time costs more than the copying.
pub struct Batch {
    /// Padding up to the first block, then what was gathered. It never grows.
    memory: Vec<u8>,
    start: usize,
}

impl Batch {
    pub const SIZE: usize = 1 << 20;

    pub fn new() -> Self {
        let mut memory = Vec::<u8>::with_capacity(BLOCK + Self::SIZE);
        let start = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        memory.resize(start, 0);
        Self { memory, start }
    }

    /// Moves over what there is room for.
    pub fn fill(&mut self, from: &mut Bytes) {
        let count = from.len().min(Self::SIZE - self.bytes().len());
        self.memory.extend_from_slice(&from[..count]);
        from.advance(count);
    }

    pub fn clear(&mut self) {
        self.memory.truncate(self.start);
    }

    pub fn is_full(&self) -> bool {
        self.bytes().len() == Self::SIZE
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left() {
        let mut batch = Batch::new();
        let mut bytes = Bytes::from(vec![1; Batch::SIZE + 3]);
        for _ in 0..2 {
            batch.fill(&mut bytes.clone());
            assert!(batch.is_full());
            assert_eq!(batch.bytes().as_ptr().align_offset(BLOCK), 0);
            batch.clear();
        }
        batch.fill(&mut bytes);
        batch.fill(&mut bytes);
        assert_eq!((batch.bytes().len(), bytes.len()), (Batch::SIZE, 3));
    }
}
