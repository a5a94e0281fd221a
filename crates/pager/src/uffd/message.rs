//! What a userfaultfd tells.

use std::{
    ops::Range,
    os::fd::{FromRawFd, OwnedFd},
};

use super::abi;

#[derive(Debug)]
pub enum Message {
    /// A thread waits for the page at this address.
    Fault { address: u64 },
    /// The process gave pages back. From now on they are zeros.
    Removed(Range<u64>),
    /// Addresses are no part of the memory any more.
    Unmapped(Range<u64>),
    /// A copy of the process was made, whose memory nobody serves; or a kind that is not known.
    Other,
    /// A fault of a kind that nobody registered for, and that nobody can serve.
    Strange { flags: u64 },
}

impl Message {
    /// Takes what comes with the message, such as a descriptor.
    ///
    /// @param bytes those of one message
    pub fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        match bytes[0] {
            abi::UFFD_EVENT_PAGEFAULT => {
                let strange = abi::UFFD_PAGEFAULT_FLAG_WP | abi::UFFD_PAGEFAULT_FLAG_MINOR;
                let (flags, address) = (word(8), word(16));
                if flags & strange == 0 { Self::Fault { address } } else { Self::Strange { flags } }
            }
            abi::UFFD_EVENT_REMOVE => Self::Removed(word(8)..word(16)),
            abi::UFFD_EVENT_UNMAP => Self::Unmapped(word(8)..word(16)),
            // Where it went is not followed: a fault there is one outside of all regions.
            abi::UFFD_EVENT_REMAP => Self::Unmapped(word(8)..word(8).saturating_add(word(24))),
            abi::UFFD_EVENT_FORK => {
                let mut descriptor = [0; 4];
                descriptor.copy_from_slice(&bytes[8..12]);
                // SAFETY: the kernel made this descriptor for this message, and nobody else has it.
                drop(unsafe { OwnedFd::from_raw_fd(i32::from_ne_bytes(descriptor)) });
                Self::Other
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: u8, words: [u64; 3]) -> [u8; abi::MESSAGE] {
        let mut bytes = [0; abi::MESSAGE];
        bytes[0] = event;
        for (at, word) in words.into_iter().enumerate() {
            bytes[8 + 8 * at..16 + 8 * at].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn each_event_is_known_and_one_from_a_later_kernel_is_passed_over() {
        let parse = |event, words| Message::parse(&message(event, words));
        assert!(matches!(parse(0x12, [1, 0x5000, 0]), Message::Fault { address: 0x5000 }));
        assert!(matches!(parse(0x12, [2, 0x5000, 0]), Message::Strange { flags: 2 }));
        assert!(matches!(parse(0x15, [1, 2, 0]), Message::Removed(range) if range == (1..2)));
        assert!(matches!(parse(0x16, [1, 2, 0]), Message::Unmapped(range) if range == (1..2)));
        assert!(matches!(parse(0x14, [8, 99, 4]), Message::Unmapped(range) if range == (8..12)));
        assert!(
            matches!(parse(0x14, [8, 99, u64::MAX]), Message::Unmapped(range) if range == (8..u64::MAX))
        );
        assert!(matches!(parse(0x77, [1, 2, 3]), Message::Other));
    }
}
