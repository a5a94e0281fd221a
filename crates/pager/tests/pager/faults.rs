use perch_pager::{
    PAGE,
    metrics::{LATENCY, Metric},
};

use crate::support::{
    chain::{TestChain, TestEntry, encode},
    client::{Memory, hand_over},
    pager::{Pager, Settings},
    random::Random,
};

/// Of all the chains together.
fn faults() -> u64 {
    std::env::var("PERCH_PAGER_FAULTS").map_or(4000, |text| text.parse().expect("a number"))
}

/// Two threads touch all pages in random orders, give them back without a word, and touch them again.
#[test]
fn each_fault_gets_the_page_of_a_model_in_whatever_order() {
    let (mut seen, mut seed) = (0, 0);
    while seen < faults() {
        seed += 1;
        let random = &mut Random::new(seed);
        let pages = 1024 + random.below(1024) as u32;
        let (builds, longest) = (random.below(6) as u8, 1 + random.below(50));
        let chain = TestChain::random(random, pages, builds, longest);
        let window_kib = Some(4 << random.below(7));
        let Some((memory, uffd)) = Memory::new(pages, 0) else { return };
        let pager = Pager::with(&chain, &Settings { window_kib, ..Settings::default() });
        let connection = pager.connect();
        // The guest's memory lies in two parts, the second one first.
        let half = pages / 2 - 3;
        let regions = [memory.region(0..pages - half, half), memory.region(pages - half..pages, 0)];
        hand_over(&connection, &format!("[{}]", regions.join(",")), &uffd);
        let place = |page| if page < half { page + pages - half } else { page - half };
        for _ in 0..4 {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    let order = random.shuffled(pages);
                    let (memory, chain) = (&memory, &chain);
                    scope.spawn(move || {
                        for page in order {
                            assert!(
                                memory.page(place(page)) == chain.page(page),
                                "seed {seed}: page {page}"
                            );
                        }
                    });
                }
            });
            memory.give_back(0..pages);
        }
        drop((connection, uffd));
        let ended = pager.end();
        assert!(ended.status.success(), "{ended:?}");
        let counted = ended.metric(Metric::Faults);
        assert!(counted >= u64::from(pages) * 4 / 64, "seed {seed}: {counted} faults");
        let histogram: u64 = (LATENCY..LATENCY + 24).map(|index| ended.word(index)).sum();
        assert_eq!(histogram, counted);
        seen += counted;
    }
}

#[test]
fn pages_of_zeros_are_never_copied_and_others_once() {
    let chain = TestChain::random(&mut Random::new(1), 1024, 3, 9);
    let Some((memory, uffd)) = Memory::new(1024, 0) else { return };
    let pager = Pager::start(&chain);
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    for page in 0..1024 {
        memory.page(page);
    }
    drop((connection, uffd));
    let pager = pager.end();
    assert_eq!(pager.metric(Metric::CopiedBytes), chain.full_pages() * PAGE as u64);
    assert_eq!(pager.metric(Metric::ZeroPages), 1024 - chain.full_pages());
    // 64 KiB at once.
    assert_eq!(pager.metric(Metric::Faults), 1024 / 16);
    assert_eq!(pager.metric(Metric::Peer), u64::from(std::process::id()));
}

#[test]
fn four_gib_in_a_million_parts_take_four_megabytes() {
    const PAGES: u32 = 1 << 20;
    // No two parts continue each other.
    let storage = |page: u32| u64::from(page ^ 1) * PAGE as u64;
    let entries: Vec<_> = (0..PAGES)
        .map(|page| TestEntry { pages: 1, build: [1; 16], storage: storage(page) })
        .collect();
    let chain = TestChain {
        header: encode(PAGES, &entries),
        memfiles: vec![([1; 16], vec![])],
        memory: vec![],
    };
    let Some((memory, uffd)) = Memory::new(PAGES, 0) else { return };
    let pager = Pager::with(
        &chain,
        &Settings { hole: u64::from(PAGES) * PAGE as u64, ..Settings::default() },
    );
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    let random = &mut Random::new(1);
    for _ in 0..300 {
        let page = random.below(PAGES.into()) as u32;
        assert!(memory.page(page) == [0; PAGE]);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", pager.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib <= 4096, "{kib} KiB");
}
