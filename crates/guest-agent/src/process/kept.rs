//! The last output of a process, for whoever asks for it later. It lies in the guest's memory, so a pause
//! keeps it and a fork copies it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Kept of one stream, `bytes`.
const MOST: usize = 64 << 10;
/// Kept of one stream while all processes together are over their bound.
const LEAST: usize = 4 << 10;
/// Bound of all processes together, `bytes`.
const ALL: usize = 16 << 20;

/// Bytes that are kept of all processes.
#[derive(Clone, Default)]
pub struct Ledger(Arc<AtomicUsize>);

impl Ledger {
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) > ALL
    }
}

/// The end of what one stream has put out.
pub struct Tail {
    /// As in a `data` event.
    pub name: &'static str,
    pub bytes: VecDeque<u8>,
    /// There was more before it.
    pub truncated: bool,
}

#[derive(Default)]
pub struct Kept {
    tails: Vec<Tail>,
    ledger: Ledger,
}

impl Kept {
    pub fn new(ledger: Ledger) -> Self {
        Self { tails: Vec::new(), ledger }
    }

    pub fn push(&mut self, name: &'static str, bytes: &[u8]) {
        let limit = if self.ledger.is_over() { LEAST } else { MOST };
        let index = self.tails.iter().position(|tail| tail.name == name).unwrap_or_else(|| {
            self.tails.push(Tail { name, bytes: VecDeque::new(), truncated: false });
            self.tails.len() - 1
        });
        let tail = &mut self.tails[index];
        let before = tail.bytes.len();
        let fits = &bytes[bytes.len().saturating_sub(limit)..];
        let excess = (before + fits.len()).saturating_sub(limit);
        tail.truncated |= excess > 0 || fits.len() < bytes.len();
        tail.bytes.drain(..excess);
        tail.bytes.extend(fits);
        self.ledger.0.fetch_add(tail.bytes.len(), Ordering::Relaxed);
        self.ledger.0.fetch_sub(before, Ordering::Relaxed);
    }

    pub fn tails(&self) -> &[Tail] {
        &self.tails
    }

    /// Gives back what nothing will be added to.
    pub fn shrink(&mut self) {
        self.tails.iter_mut().for_each(|tail| tail.bytes.shrink_to_fit());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let kept = self.tails.iter().map(|tail| tail.bytes.len()).sum();
        self.ledger.0.fetch_sub(kept, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(kept: &Kept) -> Vec<u8> {
        kept.tails().iter().flat_map(|tail| tail.bytes.iter().copied()).collect()
    }

    proptest! {
        #[test]
        fn the_end_of_what_was_pushed_is_kept(sizes in prop::collection::vec(0..MOST * 2, 0..6)) {
            let mut kept = Kept::default();
            let mut all = Vec::new();
            for (index, size) in sizes.into_iter().enumerate() {
                let piece = vec![index as u8; size];
                kept.push("stdout", &piece);
                all.extend(piece);
            }
            let from = all.len().saturating_sub(MOST);
            prop_assert!(text(&kept) == all[from..]);
            prop_assert_eq!(kept.tails().iter().any(|tail| tail.truncated), from > 0);
        }
    }

    #[test]
    fn each_stream_has_its_own_end() {
        let mut kept = Kept::default();
        kept.push("stderr", b"e");
        kept.push("stdout", b"o");
        kept.push("stderr", b"f");
        assert_eq!(text(&kept), b"efo");
    }

    #[test]
    fn many_processes_keep_less_each_and_give_it_back() {
        let ledger = Ledger::default();
        let piece = vec![0; MOST];
        let mut all = Vec::new();
        while !ledger.is_over() {
            let mut kept = Kept::new(ledger.clone());
            kept.push("stdout", &piece);
            all.push(kept);
        }
        let mut last = Kept::new(ledger.clone());
        last.push("stdout", &piece);
        assert_eq!(last.tails()[0].bytes.len(), LEAST);
        drop((all, last));
        assert_eq!(ledger.0.load(Ordering::Relaxed), 0);
    }
}
