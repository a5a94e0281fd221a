use std::os::{fd::AsFd, unix::net::UnixStream};

use perch_pager::metrics::{Metric, State};
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::support::{
    chain::TestChain,
    client::{self, Memory, hand_over, send},
    pager::Pager,
    random::Random,
};

fn chain() -> TestChain {
    TestChain::flat(&mut Random::new(5), 256)
}

#[test]
fn it_ends_well_with_a_machine_that_is_killed_in_the_middle_of_its_faults() {
    let chain = chain();
    if Memory::new(1, 0).is_none() {
        return;
    }
    for round in 0..5 {
        let mut pager = Pager::start(&chain);
        let path = pager.socket_path();
        let child = client::in_child(|| {
            let (memory, uffd) = Memory::new(256, 0).unwrap();
            let connection = UnixStream::connect(path).unwrap();
            hand_over(&connection, &memory.whole(), &uffd);
            loop {
                for page in 0..256 {
                    memory.page(page);
                }
                memory.give_back(0..256);
            }
        });
        pager.reaches(Metric::Faults, 1 + 20 * round);
        kill_process(child, Signal::KILL).unwrap();
        waitpid(Some(child), WaitOptions::empty()).unwrap();
        let ended = pager.end();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
}

#[test]
fn it_ends_with_the_connection_also_while_nothing_is_asked_for() {
    let Some((memory, uffd)) = Memory::new(256, 0) else { return };
    let mut pager = Pager::start(&chain());
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    pager.reaches(Metric::State, State::Serving as u64);
    drop(connection);
    assert!(pager.end().status.success());
}

#[test]
fn it_can_be_ended_while_nobody_has_connected() {
    let mut pager = Pager::start(&chain());
    pager.reaches(Metric::State, State::Waiting as u64);
    pager.signal(Signal::TERM);
    assert!(!pager.end().status.success());
}

#[test]
fn a_fault_that_nobody_can_serve_ends_it_with_the_reason() {
    let Some((memory, uffd)) = Memory::new(256, 0) else { return };
    let mut pager = Pager::start(&chain());
    let connection = pager.connect();
    hand_over(&connection, &format!("[{}]", memory.region(0..128, 0)), &uffd);
    pager.reaches(Metric::State, State::Serving as u64);
    // Once the pager has ended the last descriptor is closed, and the kernel lets the thread go.
    drop(uffd);
    memory.page(128);
    let ended = pager.end();
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("a fault outside of all regions"), "{ended:?}");
}

#[test]
fn a_monitor_that_says_more_than_its_hand_off_ends_it() {
    let Some((memory, uffd)) = Memory::new(256, 0) else { return };
    let mut pager = Pager::start(&chain());
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    pager.reaches(Metric::State, State::Serving as u64);
    send(&connection, "more", &[uffd.as_fd()]);
    let ended = pager.end();
    assert!(ended.stderr.contains("says more than its hand-off"), "{ended:?}");
}

#[test]
fn a_memfile_that_became_too_short_ends_it() {
    let Some((memory, uffd)) = Memory::new(256, 0) else { return };
    let mut pager = Pager::start(&chain());
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    pager.reaches(Metric::State, State::Serving as u64);
    let memfile = pager.socket_path().with_file_name("memfile-0");
    std::fs::OpenOptions::new().write(true).open(memfile).unwrap().set_len(4096).unwrap();
    drop(uffd);
    memory.page(100);
    let ended = pager.end();
    assert!(ended.stderr.contains("cannot read a memfile"), "{ended:?}");
}
