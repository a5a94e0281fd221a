use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use perch_pager::{
    handoff::Regions,
    metrics::{Metric, State},
};
use proptest::prelude::*;
use rustix::process::{WaitOptions, waitpid};

use crate::support::{
    chain::TestChain,
    client::{self, Memory, hand_over, send},
    pager::{Ended, Pager},
    random::Random,
};

fn chain() -> TestChain {
    TestChain::flat(&mut Random::new(6), 64)
}

fn refused(send: impl FnOnce(&UnixStream)) -> Ended {
    let pager = Pager::start(&chain());
    let connection = pager.connect();
    send(&connection);
    let ended = pager.end();
    assert!(!ended.status.success(), "{ended:?}");
    ended
}

#[test]
fn one_in_pieces_is_one() {
    let Some((memory, uffd)) = Memory::new(64, 0) else { return };
    let chain = chain();
    let pager = Pager::start(&chain);
    let mut connection = pager.connect();
    let text = memory.whole();
    let (start, rest) = text.split_at(30);
    send(&connection, start, &[uffd.as_fd()]);
    connection.write_all(rest.as_bytes()).unwrap();
    assert!(memory.page(63) == chain.page(63));
}

#[test]
fn one_that_is_not_right_ends_it_with_the_reason() {
    let null = File::open("/dev/null").unwrap();
    let region = r#"[{"base_host_virt_addr":4096,"size":4096,"offset":0,"page_size":4096}]"#;
    let text = |text: &str| refused(|connection| send(connection, text, &[null.as_fd()])).stderr;
    assert!(text("[}").contains("no list of regions"));
    assert!(text("[]").contains("0 regions"));
    assert!(
        text(&region.replace("\"size\":4096", "\"size\":1048576"))
            .contains("a region of 1048576 bytes")
    );
    assert!(text(region).contains("no userfaultfd but /dev/null"));
    assert!(text(&" ".repeat(20_000)).contains("more than 16384 bytes"));
    let stderr = refused(|connection| send(connection, region, &[])).stderr;
    assert!(stderr.contains("no descriptor"), "{stderr}");
    let stderr =
        refused(|connection| send(connection, region, &[null.as_fd(), null.as_fd()])).stderr;
    assert!(stderr.contains("more than one descriptor"), "{stderr}");
    let stderr = refused(|connection| {
        send(connection, "[", &[null.as_fd()]);
        connection.shutdown(std::net::Shutdown::Both).unwrap();
    });
    assert!(stderr.stderr.contains("went before"), "{stderr:?}");
}

#[test]
fn another_user_is_sent_away_and_the_machine_is_served() {
    let Some((memory, uffd)) = Memory::new(64, 0) else { return };
    if !rustix::process::geteuid().is_root() {
        eprintln!("left out: only root has other users");
        return;
    }
    let chain = chain();
    let mut pager = Pager::start(&chain);
    let mut stranger = pager.connect_as(65534);
    pager.reaches(Metric::State, State::Waiting as u64);
    assert_eq!(stranger.read(&mut [0; 1]).unwrap(), 0);
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    assert!(memory.page(1) == chain.page(1));
    drop((connection, uffd));
    assert!(pager.end().stderr.contains("user 65534 connected"));
}

/// Regions of a memory of 100 pages: address, size and offset in pages.
fn parse(regions: &[(u64, u64, u64)]) -> Result<Regions, String> {
    let one = |(address, size, offset): &(u64, u64, u64)| {
        let [address, size, offset] = [address, size, offset].map(|pages| pages.wrapping_mul(4096));
        format!(
            r#"{{"base_host_virt_addr":{address},"size":{size},"offset":{offset},"page_size_kib":4096,"new":[1]}}"#
        )
    };
    let text = format!("[{}]", regions.iter().map(one).collect::<Vec<_>>().join(","));
    Regions::parse(text.as_bytes(), 100)
        .map(|found| found.expect("all of it"))
        .map_err(|error| error.to_string())
}

#[test]
fn addresses_are_pages_of_the_memory_in_their_regions_only() {
    let regions = parse(&[(50, 10, 90), (1000, 90, 0)]).unwrap();
    let page = |address: u64| regions.at(address).map(|(_, page)| page);
    assert_eq!([50 * 4096, 60 * 4096 - 1].map(page), [Some(90), Some(99)]);
    assert_eq!([1000 * 4096, 1090 * 4096 - 1].map(page), [Some(0), Some(89)]);
    assert_eq!([0, 50 * 4096 - 1, 60 * 4096, 1090 * 4096, u64::MAX].map(page), [None; 5]);
    let pages: Vec<_> = regions.pages_in(55 * 4096..1001 * 4096).collect();
    assert_eq!(pages, [95..100, 0..1]);
    assert_eq!(regions.pages_in(60 * 4096..1000 * 4096).count(), 0);
    // A guest may name any addresses, also in the wrong order.
    let (last, first) = (u64::MAX, 0);
    assert_eq!(regions.pages_in(last..first).count(), 0);
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let refusal = |regions: &[_]| parse(regions).unwrap_err();
    assert!(refusal(&[(1, 101, 0)]).contains("a region of"));
    assert!(refusal(&[(1, 0, 0)]).contains("a region of 0 bytes"));
    assert!(refusal(&[(u64::MAX / 4096, 10, 0)]).contains("a region of"));
    assert!(refusal(&[(1, 10, 0), (50, 10, 9)]).contains("regions of the same memory"));
    assert!(refusal(&[(1, 10, 0), (10, 10, 10)]).contains("regions at the same addresses"));
    assert!(refusal(&vec![(1, 1, 0); 65]).contains("65 regions"));
    let huge = r#"[{"base_host_virt_addr":0,"size":4096,"offset":0,"page_size":2097152}]"#;
    assert!(
        Regions::parse(huge.as_bytes(), 100)
            .unwrap_err()
            .to_string()
            .contains("without pages of 4096 bytes")
    );
}

proptest! {
    #[test]
    fn whatever_a_monitor_says_is_regions_or_refused_and_each_page_has_one_address(
        text in "[\\[\\]{},:\"a-z0-9_ ]{0,80}",
        regions in prop::collection::vec((0..300_u64, 0..60_u64, 0..120_u64), 0..4),
    ) {
        let _ = Regions::parse(text.as_bytes(), 100);
        if let Ok(regions) = parse(&regions) {
            for page in 0..100 {
                if let Some(region) = regions.of(page) {
                    prop_assert_eq!(regions.at(region.address_of(page) + 5), Some((region, page)));
                }
            }
        }
    }
}

impl Pager {
    /// A connection that a process of another user made.
    fn connect_as(&self, user: u32) -> UnixStream {
        use std::os::unix::fs::PermissionsExt;
        let path = self.socket_path();
        for path in [path.as_path(), path.parent().unwrap()] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = client::in_child(|| {
            // SAFETY: the child has one thread, whose user it changes.
            assert_eq!(unsafe { libc::setresuid(user, user, user) }, 0);
            let connection = UnixStream::connect(&path).unwrap();
            send(&theirs, "x", &[connection.as_fd()]);
        });
        let (_, connection) = client::receive(&ours);
        waitpid(Some(child), WaitOptions::empty()).unwrap();
        connection.into()
    }
}
