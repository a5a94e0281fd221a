//! The answers of the kernel, one by one.

use std::os::fd::OwnedFd;

use perch_pager::{
    PAGE,
    uffd::{Message, Outcome, Userfault},
};
use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::support::client::{self, Memory};

fn memory(pages: u32, features: u64) -> Option<(Memory, Userfault)> {
    let (memory, uffd) = Memory::new(pages, features)?;
    Some((memory, Userfault::new(uffd).unwrap()))
}

#[test]
fn pages_that_are_there_stay_as_they_are_and_those_around_them_are_placed() {
    let Some((memory, uffd)) = memory(8, 0) else { return };
    for page in [2, 3, 7] {
        assert_eq!(
            uffd.copy(memory.address(page), &[1; PAGE]).unwrap(),
            Outcome::Done { placed: 1 }
        );
    }
    assert_eq!(uffd.copy(memory.address(0), &[2; 8 * PAGE]).unwrap(), Outcome::Done { placed: 5 });
    let found: Vec<u8> = (0..8).map(|page| memory.page(page)[5]).collect();
    assert_eq!(found, [2, 2, 1, 1, 2, 2, 2, 1]);
    assert_eq!(uffd.zero(memory.address(0), 8 * PAGE).unwrap(), Outcome::Done { placed: 0 });
    assert_eq!(memory.page(0)[5], 2);
}

#[test]
fn nothing_is_placed_before_an_event_was_read_and_all_of_it_later() {
    let Some((memory, uffd)) = memory(8, client::EVENT_REMOVE) else { return };
    uffd.copy(memory.address(3), &[1; PAGE]).unwrap();
    let mut removed = None;
    std::thread::scope(|scope| {
        scope.spawn(|| memory.give_back(3..5));
        // The kernel begins to refuse when it has the event, before anybody reads it.
        while uffd.copy(memory.address(0), &[2; PAGE]).unwrap() != (Outcome::Again { placed: 0 }) {}
        assert_eq!(uffd.zero(memory.address(1), PAGE).unwrap(), Outcome::Again { placed: 0 });
        while removed.is_none() {
            let take = |message| {
                if let Message::Removed(range) = message {
                    removed = Some(range);
                }
            };
            uffd.read(take).unwrap();
        }
    });
    assert_eq!(removed, Some(memory.address(3)..memory.address(5)));
    assert!(matches!(uffd.copy(memory.address(0), &[3; 8 * PAGE]).unwrap(), Outcome::Done { .. }));
    assert_eq!([3, 4, 7].map(|page| memory.page(page)[0]), [3; 3]);
}

#[test]
fn addresses_that_nobody_serves_any_more_are_passed_over() {
    let Some((memory, uffd)) = memory(8, 0) else { return };
    memory.unmap(3..5);
    assert_eq!(uffd.copy(memory.address(0), &[1; 8 * PAGE]).unwrap(), Outcome::Done { placed: 6 });
    assert_eq!(memory.page(7)[0], 1);
}

#[test]
fn the_end_of_the_process_is_told() {
    if Memory::new(1, 0).is_none() {
        return;
    }
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let child = client::in_child(|| {
        let (memory, uffd) = Memory::new(8, 0).unwrap();
        client::hand_over(&theirs, &memory.address(0).to_string(), &uffd);
        loop {
            std::thread::park();
        }
    });
    let (text, uffd): (String, OwnedFd) = client::receive(&ours);
    let uffd = Userfault::new(uffd).unwrap();
    kill_process(child, Signal::KILL).unwrap();
    waitpid(Some(child), WaitOptions::empty()).unwrap();
    let address = text.parse().unwrap();
    assert_eq!(uffd.copy(address, &[1; 2 * PAGE]).unwrap(), Outcome::Gone);
    assert_eq!(uffd.zero(address, PAGE).unwrap(), Outcome::Gone);
    uffd.wake(address).unwrap();
}
