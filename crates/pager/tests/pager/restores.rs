use perch_pager::metrics::{Metric, State};

use crate::support::{
    chain::TestChain,
    client::{Memory, hand_over, in_child, succeeds},
    pager::Pager,
    random::Random,
};

const PAGES: u32 = 64;

fn restores() -> u32 {
    std::env::var("PERCH_PAGER_RESTORES").map_or(50, |text| text.parse().expect("a number"))
}

/// 0 of a process that this user may not look into.
fn count(of: &str) -> usize {
    std::fs::read_dir(of).map_or(0, Iterator::count)
}

/// What somebody has who starts pagers: descriptors, threads, children.
fn held() -> [usize; 3] {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    [count("/proc/self/fd"), count("/proc/self/task"), children.split_whitespace().count()]
}

#[test]
fn restores_one_after_the_other_leave_nothing_and_each_pager_holds_the_same() {
    if Memory::new(1, 0).is_none() {
        return;
    }
    // In a process that no other test opens anything in.
    let child = in_child(|| {
        let random = &mut Random::new(12);
        let chain = TestChain::random(random, PAGES, 3, 8);
        let mut before = None;
        for restore in 0..restores() {
            let (memory, uffd) = Memory::new(PAGES, 0).unwrap();
            let mut pager = Pager::start(&chain);
            let connection = pager.connect();
            hand_over(&connection, &memory.whole(), &uffd);
            pager.reaches(Metric::State, State::Serving as u64);
            for page in random.shuffled(PAGES) {
                assert!(memory.page(page) == chain.page(page), "restore {restore}: page {page}");
            }
            let open = count(&format!("/proc/{}/fd", pager.id()));
            // As a monitor that ends: its memory goes, and all that it has open.
            drop((memory, uffd, connection));
            let ended = pager.end();
            assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
            drop(ended);
            let now = (held(), open);
            let first = *before.get_or_insert(now);
            assert_eq!(now, first, "restore {restore}");
        }
    });
    assert!(succeeds(child));
}
