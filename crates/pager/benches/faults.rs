//! `cargo bench -p perch-pager`: the pager's figures as JSON on standard output, each in milliseconds or MB/s.
//!
//! - `fault_ms`: one fault of 4 KiB, client and pager on one core; `floor_ms`: the same with the least that can serve
//!   it, a loop of poll, read and UFFDIO_COPY from a mapped file, in turn with it.
//! - `window_mbs`: memory that is read in order, 64 KiB around each fault.
//! - `lookup_ms`: one look-up in a header with 10^6 entries.

#[path = "../tests/pager/support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Instant,
};

use perch_pager::{PAGE, header::Header, uffd::abi};
use rustix::{
    ioctl::{Updater, ioctl},
    mm::{MapFlags, ProtFlags, mmap},
    process::{Pid, Signal, WaitOptions, kill_process, waitpid},
    thread::{CpuSet, sched_setaffinity},
};
use support::{
    chain::{TestChain, TestEntry, encode, file_of},
    client::{Memory, hand_over, in_child},
    pager::{Pager, Settings},
    random::Random,
};

const PAGES: u32 = 4096;
const TURNS: u64 = 7;

fn main() {
    let mut core = CpuSet::new();
    core.set(0);
    sched_setaffinity(None, &core).expect("the first core");
    let chain = full();
    let (mut ours, mut floor, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let Some(one) = fault_by_pager(&chain, turn) else { return };
        ours.push(one);
        floor.push(fault_by_least(&chain, turn));
        rates.push(window_rate(&chain));
    }
    let (ours, floor, rate) =
        (median(&mut ours.concat()), median(&mut floor.concat()), median(&mut rates));
    let lookup = median(&mut lookups());
    println!(
        r#"{{"fault_ms":{ours:.6},"floor_ms":{floor:.6},"ratio":{:.3},"window_mbs":{rate:.0},"lookup_ms":{lookup:.6}}}"#,
        ours / floor
    );
}

/// No page of it is zeros.
fn full() -> TestChain {
    let mut random = Random::new(1);
    let bytes: Vec<u8> =
        (0..PAGES as usize * PAGE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
    let entry = TestEntry { pages: PAGES, build: [1; 16], storage: 0 };
    TestChain {
        header: encode(PAGES, &[entry]),
        memfiles: vec![([1; 16], bytes.clone())],
        memory: bytes,
    }
}

/// Milliseconds of each fault of all pages in random order.
fn touches(memory: &Memory, turn: u64) -> Vec<f64> {
    let order = Random::new(turn + 1).shuffled(PAGES);
    order
        .into_iter()
        .map(|page| {
            let began = Instant::now();
            touch(memory, page);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}

/// Waits until the page is there.
fn touch(memory: &Memory, page: u32) {
    // SAFETY: it is a page of the memory, which lives as long as `memory`.
    std::hint::black_box(unsafe { (memory.address(page) as *const u8).read_volatile() });
}

fn fault_by_pager(chain: &TestChain, turn: u64) -> Option<Vec<f64>> {
    let (memory, uffd) = Memory::new(PAGES, 0)?;
    let pager = Pager::with(chain, &Settings { window_kib: Some(4), ..Settings::default() });
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    Some(touches(&memory, turn))
}

fn window_rate(chain: &TestChain) -> f64 {
    let (memory, uffd) = Memory::new(PAGES, 0).expect("as before");
    let pager = Pager::start(chain);
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    touch(&memory, 0);
    let began = Instant::now();
    (1..PAGES).for_each(|page| touch(&memory, page));
    (PAGES - 16) as f64 * PAGE as f64 / 1e6 / began.elapsed().as_secs_f64()
}

fn fault_by_least(chain: &TestChain, turn: u64) -> Vec<f64> {
    let (memory, uffd) = Memory::new(PAGES, 0).expect("as before");
    let file = file_of(&chain.memory);
    let start = memory.address(0);
    let child = in_child(|| least(&uffd, &file, start));
    let found = touches(&memory, turn);
    end(child);
    found
}

/// Serves faults of pages that lie in the file as they do in the memory, and looks at nothing.
fn least(uffd: &OwnedFd, file: &File, start: u64) {
    let bytes = PAGES as usize * PAGE;
    let flags = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: a new mapping, which is only given to the kernel.
    let source = unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, flags, file, 0) }
        .expect("a mapping") as u64;
    let mut message = [0; abi::MESSAGE];
    loop {
        let mut on = libc::pollfd { fd: uffd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor that is open.
        unsafe { libc::poll(&raw mut on, 1, -1) };
        if rustix::io::read(uffd.as_fd(), &mut message).is_err() {
            continue;
        }
        let dst = u64::from_ne_bytes(message[16..24].try_into().expect("eight bytes"))
            & !(PAGE as u64 - 1);
        let mut copy =
            abi::Copy { dst, src: source + (dst - start), len: PAGE as u64, mode: 0, copy: 0 };
        // SAFETY: the struct is that of the call, and its source is in the mapping.
        unsafe { ioctl(uffd, Updater::<{ abi::UFFDIO_COPY }, _>::new(&mut copy)) }.expect("a copy");
    }
}

fn end(child: Pid) {
    kill_process(child, Signal::KILL).expect("a child");
    waitpid(Some(child), WaitOptions::empty()).expect("its end");
}

/// Milliseconds of look-ups of random pages, each the mean of a few: one takes about as long as looking at the clock.
fn lookups() -> Vec<f64> {
    const ENTRIES: u32 = 1_000_000;
    let storage = |page: u32| u64::from(page ^ 1) * PAGE as u64;
    let entries: Vec<_> = (0..ENTRIES)
        .map(|page| TestEntry { pages: 1, build: [1; 16], storage: storage(page) })
        .collect();
    let mut header = Header::open(file_of(&encode(ENTRIES, &entries))).expect("a header");
    let mut random = Random::new(1);
    let mut some = || {
        let began = Instant::now();
        for _ in 0..8 {
            std::hint::black_box(
                header.find(random.below(ENTRIES.into()) as u32).expect("an entry"),
            );
        }
        began.elapsed().as_secs_f64() * 1e3 / 8.0
    };
    (0..20_000).map(|_| some()).collect()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
