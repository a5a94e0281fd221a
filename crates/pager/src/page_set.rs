//! A set of small numbers, one bit each. What is never put in costs no memory.

use std::ops::Range;

pub struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    /// Of the numbers below `count`.
    pub fn new(count: u32) -> Self {
        // Memory of zeros is the kernel's until it is written.
        Self { words: vec![0; (count as usize).div_ceil(64)] }
    }

    pub fn has(&self, number: u32) -> bool {
        self.words[number as usize / 64] >> (number % 64) & 1 == 1
    }

    /// Whether it was not there before.
    pub fn insert(&mut self, number: u32) -> bool {
        let is_new = !self.has(number);
        self.words[number as usize / 64] |= 1 << (number % 64);
        is_new
    }

    /// A word at a time: a guest may name all of its memory over and over.
    pub fn insert_all(&mut self, numbers: Range<u32>) {
        let mut at = numbers.start;
        while at < numbers.end {
            let count = (64 - at % 64).min(numbers.end - at);
            self.words[at as usize / 64] |= (u64::MAX >> (64 - count)) << (at % 64);
            at += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_has_what_was_put_in_and_nothing_else(
            ranges in prop::collection::vec((0..300_u32, 0..300_u32), 0..20),
            single in prop::collection::vec(0..300_u32, 0..20),
        ) {
            let (mut set, mut model) = (PageSet::new(300), BTreeSet::new());
            for (a, b) in ranges {
                let range = a.min(b)..a.max(b);
                model.extend(range.clone());
                set.insert_all(range);
            }
            for number in single {
                prop_assert_eq!(set.insert(number), model.insert(number));
            }
            for number in 0..300 {
                prop_assert_eq!(set.has(number), model.contains(&number));
            }
        }
    }
}
