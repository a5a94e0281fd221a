use perch_pager::{PAGE, metrics::Metric};

use crate::support::{
    chain::TestChain,
    client::{self, Memory, hand_over},
    pager::Pager,
    random::Random,
};

#[test]
fn pages_that_were_given_back_are_zeros_and_their_neighbours_are_not() {
    let chain = TestChain::flat(&mut Random::new(2), 64);
    let Some((memory, uffd)) = Memory::new(64, client::EVENT_REMOVE) else { return };
    let pager = Pager::start(&chain);
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    // Some that were never there, and some that were.
    memory.page(0);
    memory.give_back(3..7);
    memory.give_back(30..35);
    let given = |page| (3..7).contains(&page) || (30..35).contains(&page);
    for page in 0..64 {
        let expected = if given(page) { &[0; PAGE] } else { chain.page(page) };
        assert!(memory.page(page) == expected, "page {page}");
    }
    // A guest writes to what it has again, and gives it back once more.
    memory.write(4, 9);
    memory.give_back(4..5);
    assert!(memory.page(4) == [0; PAGE]);
    drop((connection, uffd));
    assert_eq!(pager.end().metric(Metric::RemovedPages), 10);
}

/// Some threads give pages back while others wait for them: the kernel refuses to place pages in the meantime.
#[test]
fn faults_beside_pages_that_are_given_back_all_end() {
    const PAGES: u32 = 512;
    let chain = TestChain::flat(&mut Random::new(3), PAGES);
    let Some((memory, uffd)) = Memory::new(PAGES, client::EVENT_REMOVE) else { return };
    let pager = Pager::start(&chain);
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (memory, chain) = (&memory, &chain);
            scope.spawn(move || {
                // The upper half is given back, two pages at a time.
                for page in Random::new(thread).shuffled(PAGES / 4) {
                    let start = PAGES / 2 + page * 2;
                    memory.give_back(start..start + 2);
                    assert!(memory.page(start) == [0; PAGE]);
                }
            });
            scope.spawn(move || {
                for page in Random::new(10 + thread).shuffled(PAGES / 2) {
                    assert!(memory.page(page) == chain.page(page));
                }
            });
        }
    });
    drop((connection, uffd));
    assert_eq!(pager.end().metric(Metric::RemovedPages), u64::from(PAGES));
}

/// A client in a process of its own: the kernel holds up whoever copies such a process until its pager knows.
#[test]
fn a_copy_of_the_process_and_memory_that_goes_end_nothing() {
    let chain = TestChain::flat(&mut Random::new(4), 64);
    let pager = Pager::start(&chain);
    let connection = pager.connect();
    let child = client::in_child(|| {
        let Some((memory, uffd)) = Memory::new(64, client::EVENT_FORK | client::EVENT_UNMAP) else {
            return;
        };
        hand_over(&connection, &memory.whole(), &uffd);
        assert!(client::succeeds(client::in_child(|| ())));
        // In the middle of what is put in place at once.
        memory.unmap(5..6);
        for page in (0..64).filter(|page| *page != 5) {
            assert!(memory.page(page) == chain.page(page));
        }
        // Its end is no event.
        std::mem::forget(memory);
    });
    assert!(client::succeeds(child));
    drop(connection);
    assert_eq!(pager.end().metric(Metric::OtherEvents), 2);
}
