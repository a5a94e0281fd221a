//! Serves the faults of a machine until it ends.

use std::{
    collections::VecDeque,
    ops::Range,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{
    Error, PAGE, Result,
    chain::Chain,
    handoff::{Machine, Region},
    metrics::{Metric, Metrics},
    page_set::PageSet,
    uffd::{Message, Outcome},
    window::{Run, Window},
    working_set::{Plan, Recorder},
};

/// Faults that were read and wait for their turn. Whoever has another one tries again: no machine
/// has as many threads.
const WAITING: usize = 1024;
/// After this time without a fault the working set is written.
const QUIET: Duration = Duration::from_millis(100);
/// Until a fault is tried again that the process itself holds up.
const PAUSE: Duration = Duration::from_micros(200);

pub struct Options {
    /// Pages of a window, a power of two.
    pub window_pages: u32,
    pub recorder: Option<Recorder>,
    pub plan: Plan,
}

impl Default for Options {
    fn default() -> Self {
        Self { window_pages: 16, recorder: None, plan: Plan::default() }
    }
}

struct Fault {
    address: u64,
    since: Instant,
}

/// Whether the machine is still there.
#[derive(PartialEq, Eq)]
enum Life {
    Goes,
    Ended,
}

pub struct Server<'a> {
    machine: Machine,
    chain: &'a mut Chain,
    metrics: &'a Metrics,
    options: Options,
    window: Window,
    faults: VecDeque<Fault>,
    /// Whether the prefetch waits for the process, too.
    is_held: bool,
    /// Pages that the guest gave back. They are zeros, whatever the snapshot has.
    removed: PageSet,
    /// Windows that were filled once. Only the page of a fault is filled in them again.
    filled: PageSet,
}

impl<'a> Server<'a> {
    pub fn new(
        machine: Machine,
        chain: &'a mut Chain,
        metrics: &'a Metrics,
        options: Options,
    ) -> Self {
        let pages = chain.pages();
        Self {
            machine,
            chain,
            metrics,
            window: Window::new(options.window_pages),
            faults: VecDeque::new(),
            is_held: false,
            removed: PageSet::new(pages),
            filled: PageSet::new(pages / options.window_pages + 1),
            options,
        }
    }

    /// Returns at the end of the machine.
    ///
    /// # Errors
    /// When a fault cannot be served: its thread would wait for ever.
    pub fn run(mut self) -> Result<()> {
        let result = loop {
            match self.step() {
                Ok(Life::Goes) => {}
                Ok(Life::Ended) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if let Some(recorder) = &mut self.options.recorder {
            recorder.flush();
        }
        result
    }

    fn step(&mut self) -> Result<Life> {
        let (has_messages, has_ended) = self.wait()?;
        if has_ended {
            return Ok(Life::Ended);
        }
        if has_messages {
            self.read()?;
        } else if self.has_record_to_write() {
            self.options.recorder.iter_mut().for_each(Recorder::flush);
        }
        // Each is tried once, then events are read: they may be what it waits for.
        for _ in 0..self.faults.len() {
            let Some(fault) = self.faults.pop_front() else { break };
            match self.serve(fault.address)? {
                Outcome::Done { .. } => self.metrics.observe(fault.since.elapsed()),
                Outcome::Again { .. } => {
                    self.metrics.add(Metric::Retries, 1);
                    self.faults.push_back(fault);
                }
                Outcome::Gone => return Ok(Life::Ended),
            }
        }
        if self.faults.is_empty() && self.prefetch()? == Outcome::Gone {
            return Ok(Life::Ended);
        }
        Ok(Life::Goes)
    }

    /// Waits until there is something to do. Tells of messages, and of the end of the monitor.
    fn wait(&self) -> Result<(bool, bool)> {
        let limit = if !self.faults.is_empty() || self.is_held {
            Some(PAUSE)
        } else if !self.options.plan.is_done() {
            Some(Duration::ZERO)
        } else if self.has_record_to_write() {
            Some(QUIET)
        } else {
            None
        };
        let limit = limit.map(|limit| Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() });
        let (uffd, connection) = (self.machine.uffd.as_fd(), self.machine.connection.as_fd());
        let mut on = [
            PollFd::from_borrowed_fd(uffd, PollFlags::IN),
            PollFd::from_borrowed_fd(connection, PollFlags::IN),
        ];
        match poll(&mut on, limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(Error::of("cannot wait for faults", error)),
        }
        let [messages, end] = on.map(|descriptor| descriptor.revents());
        if messages.contains(PollFlags::ERR) {
            return Err(Error::new("the userfaultfd is not set up"));
        }
        Ok((messages.contains(PollFlags::IN), !end.is_empty() && self.has_ended()?))
    }

    /// Of a connection that has something to say.
    fn has_ended(&self) -> Result<bool> {
        match rustix::io::read(&self.machine.connection, &mut [0; 1]) {
            Ok(0) | Err(Errno::CONNRESET) => Ok(true),
            Ok(_) => Err(Error::new("the monitor says more than its hand-off")),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(Error::of("cannot read from the monitor", error)),
        }
    }

    fn read(&mut self) -> Result<()> {
        let since = Instant::now();
        let mut messages = [const { None }; 16];
        let mut count = 0;
        self.machine.uffd.read(|message| {
            messages[count] = Some(message);
            count += 1;
        })?;
        messages.into_iter().flatten().try_for_each(|message| self.take(message, since))
    }

    fn take(&mut self, message: Message, since: Instant) -> Result<()> {
        match message {
            Message::Fault { address } if self.faults.len() < WAITING => {
                self.metrics.add(Metric::Faults, 1);
                self.faults.push_back(Fault { address, since });
                Ok(())
            }
            Message::Fault { address } => self.machine.uffd.wake(address & !(PAGE as u64 - 1)),
            Message::Removed(addresses) => {
                for pages in self.machine.regions.pages_in(addresses) {
                    self.metrics.add(Metric::RemovedPages, pages.len() as u64);
                    self.removed.insert_all(pages);
                }
                Ok(())
            }
            Message::Unmapped(_) | Message::Other => {
                self.metrics.add(Metric::OtherEvents, 1);
                Ok(())
            }
            Message::Strange { flags } => {
                Err(Error(format!("a fault of an unknown kind, {flags:#x}")))
            }
        }
    }

    fn serve(&mut self, address: u64) -> Result<Outcome> {
        let Some((region, page)) = self.machine.regions.at(address) else {
            return Err(Error(format!("a fault outside of all regions, at {address:#x}")));
        };
        let number = page / self.options.window_pages;
        let is_first = self.filled.insert(number);
        let pages = if is_first { self.pages_of(number, &region) } else { page..page + 1 };
        if is_first {
            self.note(page);
        } else {
            self.metrics.add(Metric::Repeated, 1);
        }
        let count = pages.len();
        let outcome = if self.removed.has(page) {
            self.zero(&region, page, 1)?
        } else {
            self.fill(&region, pages)?
        };
        if matches!(outcome, Outcome::Done { placed } if placed < count) {
            // Nobody is woken where the page was there already, or nothing could be placed.
            self.machine.uffd.wake(region.address_of(page))?;
        }
        Ok(outcome)
    }

    /// The part of a window that is in the region.
    fn pages_of(&self, number: u32, region: &Region) -> Range<u32> {
        let (first, own) = (number * self.options.window_pages, region.pages());
        first.max(own.start)..(first + self.options.window_pages).min(own.end)
    }

    fn fill(&mut self, region: &Region, pages: Range<u32>) -> Result<Outcome> {
        self.window.load(self.chain, pages, &self.removed)?;
        let mut all = 0;
        for run in self.window.runs() {
            let outcome = match run {
                Run::Zeros { page, pages } => self.zero(region, page, pages)?,
                Run::Bytes { page, bytes } => {
                    let outcome = self.machine.uffd.copy(region.address_of(page), bytes)?;
                    self.metrics.add(Metric::CopiedBytes, (outcome.placed() * PAGE) as u64);
                    outcome
                }
            };
            all += outcome.placed();
            match outcome {
                Outcome::Done { .. } => {}
                Outcome::Again { .. } => return Ok(Outcome::Again { placed: all }),
                Outcome::Gone => return Ok(Outcome::Gone),
            }
        }
        Ok(Outcome::Done { placed: all })
    }

    fn zero(&self, region: &Region, page: u32, pages: u32) -> Result<Outcome> {
        let outcome = self.machine.uffd.zero(region.address_of(page), pages as usize * PAGE)?;
        self.metrics.add(Metric::ZeroPages, outcome.placed() as u64);
        Ok(outcome)
    }

    /// Fills the next window of the working set, unless a fault has come before.
    fn prefetch(&mut self) -> Result<Outcome> {
        self.is_held = false;
        let done = Outcome::Done { placed: 0 };
        let Some(page) = self.options.plan.next() else { return Ok(done) };
        let number = page / self.options.window_pages;
        if self.filled.has(number) {
            self.metrics.add(Metric::PrefetchLate, 1);
        } else if let Some(region) = self.machine.regions.of(page) {
            let outcome = self.fill(&region, self.pages_of(number, &region))?;
            self.metrics.add(Metric::PrefetchedBytes, (outcome.placed() * PAGE) as u64);
            if !matches!(outcome, Outcome::Done { .. }) {
                self.is_held = true;
                return Ok(outcome);
            }
            self.metrics.add(Metric::PrefetchHits, 1);
            self.filled.insert(number);
            self.note(page);
        }
        self.options.plan.advance();
        Ok(done)
    }

    fn note(&mut self, page: u32) {
        if self.options.recorder.as_mut().is_some_and(|recorder| recorder.note(page)) {
            self.metrics.add(Metric::Recorded, 1);
        }
    }

    /// Not in the middle of a prefetch, which adds to it all the time.
    fn has_record_to_write(&self) -> bool {
        self.options.plan.is_done()
            && self.options.recorder.as_ref().is_some_and(Recorder::is_behind)
    }
}
