use std::io::Write;

use perch_pager::{
    PAGE,
    header::{Content, Header},
};
use proptest::prelude::*;

use crate::support::{
    chain::{TestChain, TestEntry, encode, file_of},
    random::Random,
};

fn open(bytes: &[u8]) -> perch_pager::Result<Header> {
    Header::open(file_of(bytes))
}

fn refusal(bytes: &[u8]) -> String {
    open(bytes).err().expect("a refusal").to_string()
}

/// A header of one entry that is right, with a field of it changed.
fn with(at: usize, word: u64) -> Vec<u8> {
    let mut bytes = encode(4, &[TestEntry { pages: 4, build: [5; 16], storage: 8192 }]);
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_page_is_found_where_a_model_has_it(seed in any::<u64>(), longest in 1..40_u64) {
        let chain = TestChain::random(&mut Random::new(seed), 600, 5, longest);
        let mut header = open(&chain.header).unwrap();
        let builds = header.builds();
        for page in Random::new(seed).shuffled(600) {
            let entry = header.find(page).unwrap();
            prop_assert!((entry.start..entry.end).contains(&page));
            let found = match entry.content {
                Content::Zeros => vec![0; PAGE],
                Content::Stored { build, offset } => {
                    let (id, least) = builds[usize::from(build)];
                    let file = &chain.memfiles.iter().find(|(known, _)| *known == id).unwrap().1;
                    prop_assert!(least <= file.len() as u64);
                    let at = offset as usize + (page - entry.start) as usize * PAGE;
                    file[at..at + PAGE].to_vec()
                }
            };
            prop_assert_eq!(&found, chain.page(page));
        }
    }

    #[test]
    fn whatever_the_bytes_are_they_are_a_header_or_refused(
        seed in any::<u64>(), changes in prop::collection::vec((0..4096_usize, any::<u8>()), 1..8), cut in 0..40_usize,
    ) {
        let mut bytes = TestChain::random(&mut Random::new(seed), 100, 3, 4).header;
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut % 2 * cut);
        if let Ok(mut header) = open(&bytes) {
            for page in 0..header.pages() {
                let entry = header.find(page).unwrap();
                prop_assert!((entry.start..entry.end).contains(&page));
            }
        }
    }
}

#[test]
fn a_header_with_a_fault_is_refused_with_the_fault() {
    assert!(open(&with(24, 7)).is_ok());
    assert!(refusal(&[0; 63]).contains("its head"));
    assert!(refusal(&with(0, 2)).contains("version 2"));
    assert!(refusal(&with(8, 8192)).contains("blocks of 8192 bytes"));
    assert!(refusal(&with(16, 4097)).contains("a memory of 4097 bytes"));
    assert!(refusal(&with(16, 1 << 40)).contains("a memory of 1099511627776 bytes"));
    assert!(refusal(&with(16, 8192)).contains("an entry of 16384 bytes at 0"));
    assert!(refusal(&with(16, 32768)).contains("4 of 8 pages"));
    assert!(refusal(&with(64, 4096)).contains("an entry at 4096, where page 0 is due"));
    assert!(refusal(&with(72, 0)).contains("an entry of 0 bytes"));
    assert!(refusal(&with(72, u64::MAX)).contains("an entry of 18446744073709551615 bytes"));
    assert!(refusal(&with(96, 1)).contains("stored at 1"));
    assert!(refusal(&with(96, u64::MAX - 4095)).contains("stored at"));
    assert!(refusal(&with(24, 7)[..100]).contains("36 bytes of entries"));
    assert!(refusal(&with(24, 7)[..64]).contains("0 bytes of entries"));
}

#[test]
fn more_builds_than_a_chain_has_are_refused() {
    let entries: Vec<TestEntry> = (1..=4097_u32)
        .map(|id| {
            let mut build = [0; 16];
            build[..4].copy_from_slice(&id.to_le_bytes());
            TestEntry { pages: 1, build, storage: 0 }
        })
        .collect();
    assert!(open(&encode(4096, &entries[..4096])).is_ok());
    assert!(refusal(&encode(4097, &entries)).contains("more than 4096 builds"));
}

#[test]
fn a_header_that_changes_after_it_was_checked_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("header");
    let entry = |build| TestEntry { pages: 1, build, storage: 0 };
    let entries = || (0..200).map(|_| entry([5; 16])).collect::<Vec<_>>();
    std::fs::write(&path, encode(200, &entries())).unwrap();
    let mut header = Header::open(std::fs::File::open(&path).unwrap()).unwrap();
    let other: Vec<_> = (0..200).map(|_| entry([6; 16])).collect();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all(&encode(200, &other))
        .unwrap();
    assert!(header.find(0).unwrap_err().to_string().contains("another than it was"));
    std::fs::write(&path, []).unwrap();
    assert!(header.find(100).unwrap_err().to_string().contains("cannot read the header"));
}
