//! linux/userfaultfd.h, as far as it is used. All of it is the same on each 64-bit machine.

use rustix::ioctl::Opcode;

pub const UFFDIO_WAKE: Opcode = code(2, 16, 0x02);
pub const UFFDIO_COPY: Opcode = code(3, 40, 0x03);
pub const UFFDIO_ZEROPAGE: Opcode = code(3, 32, 0x04);

pub const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
pub const UFFD_EVENT_FORK: u8 = 0x13;
pub const UFFD_EVENT_REMAP: u8 = 0x14;
pub const UFFD_EVENT_REMOVE: u8 = 0x15;
pub const UFFD_EVENT_UNMAP: u8 = 0x16;

/// Not of a missing page, but of one that is write-protected, or not mapped yet.
pub const UFFD_PAGEFAULT_FLAG_WP: u64 = 1 << 1;
pub const UFFD_PAGEFAULT_FLAG_MINOR: u64 = 1 << 2;

/// `struct uffd_msg`, bytes.
pub const MESSAGE: usize = 32;

#[repr(C)]
pub struct Range {
    pub start: u64,
    pub len: u64,
}

#[repr(C)]
pub struct Copy {
    pub dst: u64,
    pub src: u64,
    pub len: u64,
    pub mode: u64,
    /// The kernel's answer: bytes that were copied, or an error below zero.
    pub copy: i64,
}

#[repr(C)]
pub struct ZeroPage {
    pub range: Range,
    pub mode: u64,
    /// The kernel's answer, as of a copy.
    pub zeropage: i64,
}

/// `_IOC` of asm-generic/ioctl.h, of the type 0xAA. `direction`: 1 the kernel reads, 2 it writes.
pub const fn code(direction: u32, size: u32, number: u32) -> Opcode {
    direction << 30 | size << 16 | 0xAA << 8 | number
}
