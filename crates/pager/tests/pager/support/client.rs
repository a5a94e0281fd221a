//! A process with memory that it has somebody else fill: the part of a monitor.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use perch_pager::{PAGE, uffd::abi};
use rustix::{
    io::Errno,
    ioctl::{Updater, ioctl},
    mm::{
        Advice, MapFlags, ProtFlags, UserfaultfdFlags, madvise, mmap_anonymous, munmap, userfaultfd,
    },
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, WaitOptions, waitpid},
};

#[repr(C)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    range: abi::Range,
    mode: u64,
    ioctls: u64,
}

const UFFDIO_API: rustix::ioctl::Opcode = abi::code(3, 24, 0x3F);
const UFFDIO_REGISTER: rustix::ioctl::Opcode = abi::code(3, 32, 0x00);

pub const EVENT_FORK: u64 = 1 << 1;
pub const EVENT_REMOVE: u64 = 1 << 3;
pub const EVENT_UNMAP: u64 = 1 << 6;

/// Memory in which each page is missing at first.
pub struct Memory {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: it is memory of the whole process, and only read or given back by calls.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Nothing where the kernel gives no userfaultfd.
    pub fn new(pages: u32, features: u64) -> Option<(Self, OwnedFd)> {
        let bytes = pages as usize * PAGE;
        let uffd = open(features)?;
        let (prot, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping, which overlaps none.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, prot, flags) }.unwrap().cast();
        let memory = Self { start, bytes };
        let range = abi::Range { start: memory.address(0), len: bytes as u64 };
        let mut register = Register { range, mode: 1, ioctls: 0 };
        // SAFETY: the struct is that of the call.
        unsafe { ioctl(&uffd, Updater::<UFFDIO_REGISTER, _>::new(&mut register)) }.unwrap();
        Some((memory, uffd))
    }

    pub fn address(&self, page: u32) -> u64 {
        self.start as u64 + u64::from(page) * PAGE as u64
    }

    /// Waits until the page is there, and copies it.
    pub fn page(&self, page: u32) -> Vec<u8> {
        let start = self.page_start(page);
        // SAFETY: it is in the mapping, which lives as long as `self`. Tests do not write to pages that others read.
        unsafe { std::slice::from_raw_parts(start, PAGE) }.to_vec()
    }

    /// Writes the first byte of a page.
    pub fn write(&self, page: u32, byte: u8) {
        // SAFETY: as above.
        unsafe { self.page_start(page).write_volatile(byte) };
    }

    pub fn give_back(&self, pages: Range<u32>) {
        let bytes = pages.len() * PAGE;
        // SAFETY: nobody holds a reference into the pages.
        unsafe { madvise(self.page_start(pages.start).cast(), bytes, Advice::LinuxDontNeed) }
            .unwrap();
    }

    pub fn unmap(&self, pages: Range<u32>) {
        // SAFETY: nobody touches the pages afterwards.
        unsafe { munmap(self.page_start(pages.start).cast(), pages.len() * PAGE) }.unwrap();
    }

    /// As Firecracker describes it, of pages of this memory that are others of the guest's.
    pub fn region(&self, pages: Range<u32>, first: u32) -> String {
        let (address, size) = (self.address(pages.start), pages.len() * PAGE);
        let offset = u64::from(first) * PAGE as u64;
        format!(
            r#"{{"base_host_virt_addr":{address},"size":{size},"offset":{offset},"page_size":4096,"page_size_kib":4096}}"#
        )
    }

    /// All of it as one region.
    pub fn whole(&self) -> String {
        format!("[{}]", self.region(0..(self.bytes / PAGE) as u32, 0))
    }

    fn page_start(&self, page: u32) -> *mut u8 {
        assert!((page as usize) < self.bytes / PAGE);
        // SAFETY: it is in the mapping.
        unsafe { self.start.add(page as usize * PAGE) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nobody holds a reference into it.
        unsafe { munmap(self.start.cast(), self.bytes) }.unwrap();
    }
}

fn open(features: u64) -> Option<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    let user_mode_only = UserfaultfdFlags::from_bits_retain(1);
    // SAFETY: only memory of tests is registered with it.
    let opened = unsafe { userfaultfd(flags).or_else(|_| userfaultfd(flags | user_mode_only)) };
    let uffd = match opened {
        Ok(uffd) => uffd,
        Err(error @ (Errno::PERM | Errno::NOSYS)) => {
            eprintln!("left out: the kernel gives no userfaultfd: {error}");
            return None;
        }
        Err(error) => panic!("userfaultfd: {error}"),
    };
    let mut api = Api { version: 0xAA, features, ioctls: 0 };
    // SAFETY: the struct is that of the call.
    match unsafe { ioctl(&uffd, Updater::<UFFDIO_API, _>::new(&mut api)) } {
        Ok(()) => Some(uffd),
        Err(Errno::PERM) => {
            eprintln!("left out: the kernel gives no such userfaultfd");
            None
        }
        Err(error) => panic!("UFFDIO_API: {error}"),
    }
}

/// One message with descriptors.
pub fn send(connection: &UnixStream, text: &str, descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(connection, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)
        .unwrap();
}

pub fn hand_over(connection: &UnixStream, text: &str, uffd: &OwnedFd) {
    send(connection, text, &[uffd.as_fd()]);
}

/// Runs `work` in a process of its own, which ends with it. @returns its process id
pub fn in_child(work: impl FnOnce()) -> Pid {
    // SAFETY: the child calls no code that waits for other threads: it maps, connects and touches memory, and leaves by
    // `_exit`, whatever happens.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // SAFETY: it ends the process at once.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    Pid::from_raw(pid).expect("a child")
}

/// Waits for the end of a child, and tells whether it ended by itself and well.
pub fn succeeds(child: Pid) -> bool {
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().expect("it has ended");
    status.exit_status() == Some(0)
}

/// What one message has.
pub fn receive(connection: &UnixStream) -> (String, OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 200];
    let mut into = [IoSliceMut::new(&mut bytes)];
    let length =
        recvmsg(connection, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    (String::from_utf8(bytes[..length].to_vec()).unwrap(), descriptor.unwrap())
}
