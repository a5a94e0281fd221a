use std::{
    fs::File,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use perch_pager::metrics::{Metric, State};

use crate::support::{
    chain::TestChain,
    client::{Memory, hand_over},
    pager::{Ended, Pager, Settings},
    random::Random,
};

const PAGES: u32 = 1024;

/// A machine that has been restored.
struct Restored {
    memory: Memory,
    pager: Pager,
    /// It lives as long as these.
    held: (UnixStream, OwnedFd),
}

impl Restored {
    fn new(chain: &TestChain, settings: &Settings<'_>) -> Option<Self> {
        let (memory, uffd) = Memory::new(PAGES, 0)?;
        let pager = Pager::with(chain, settings);
        let connection = pager.connect();
        hand_over(&connection, &memory.whole(), &uffd);
        Some(Self { memory, pager, held: (connection, uffd) })
    }

    fn end(self) -> Ended {
        drop(self.held);
        let ended = self.pager.end();
        assert!(ended.status.success(), "{ended:?}");
        ended
    }
}

/// The record of a machine that touched these pages, opened anew.
fn record(chain: &TestChain, pages: &[u32], path: &std::path::Path) -> Option<File> {
    let file = File::create(path).unwrap();
    let restored = Restored::new(chain, &Settings { record: Some(&file), ..Settings::default() })?;
    for page in pages {
        assert!(restored.memory.page(*page) == chain.page(*page));
    }
    restored.end();
    Some(File::open(path).unwrap())
}

#[test]
fn the_working_set_of_a_restore_is_there_before_the_next_one_asks_for_it() {
    let (chain, dir) =
        (TestChain::random(&mut Random::new(7), PAGES, 3, 20), tempfile::tempdir().unwrap());
    let touched = [900, 5, 6, 321, 1023];
    let Some(from) = record(&chain, &touched, &dir.path().join("first")) else { return };
    let second = dir.path().join("second");
    let file = File::create(&second).unwrap();
    let settings =
        Settings { prefetch: Some((&from, 64)), record: Some(&file), ..Settings::default() };
    let mut restored = Restored::new(&chain, &settings).unwrap();
    // Pages 5 and 6 are in one window.
    restored.pager.reaches(Metric::PrefetchHits, 4);
    for page in touched {
        assert!(restored.memory.page(page) == chain.page(page));
    }
    assert_eq!(restored.pager.metric(Metric::Faults), 0);
    assert!(restored.memory.page(500) == chain.page(500));
    assert_eq!(restored.end().metric(Metric::Faults), 1);
    // The next record has both: what was there ahead, and what was asked for.
    let bytes = std::fs::read(second).unwrap();
    let pages: Vec<u32> =
        bytes[8..].chunks(4).map(|page| u32::from_le_bytes(page.try_into().unwrap())).collect();
    assert_eq!(pages, [900, 5, 321, 1023, 500]);
}

#[test]
fn no_more_is_put_in_place_ahead_than_the_limit() {
    let (chain, dir) = (TestChain::flat(&mut Random::new(8), PAGES), tempfile::tempdir().unwrap());
    let all: Vec<u32> = (0..PAGES).collect();
    let Some(from) = record(&chain, &all, &dir.path().join("record")) else { return };
    let mut restored =
        Restored::new(&chain, &Settings { prefetch: Some((&from, 1)), ..Settings::default() })
            .unwrap();
    restored.pager.reaches(Metric::PrefetchHits, 16);
    assert!(restored.memory.page(PAGES - 1) == chain.page(PAGES - 1));
    let ended = restored.end();
    assert_eq!(ended.metric(Metric::PrefetchedBytes), 1 << 20);
    assert_eq!(ended.metric(Metric::PrefetchHits), 16);
}

#[test]
fn a_record_of_anything_else_is_none() {
    let (chain, dir) = (TestChain::flat(&mut Random::new(9), PAGES), tempfile::tempdir().unwrap());
    let path = dir.path().join("record");
    std::fs::write(&path, [255; 5000]).unwrap();
    let from = File::open(path).unwrap();
    let Some(mut restored) =
        Restored::new(&chain, &Settings { prefetch: Some((&from, 64)), ..Settings::default() })
    else {
        return;
    };
    restored.pager.reaches(Metric::State, State::Serving as u64);
    assert!(restored.memory.page(9) == chain.page(9));
    assert_eq!(restored.end().metric(Metric::PrefetchedBytes), 0);
}
