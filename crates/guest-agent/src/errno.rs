//! The meaning of each error of a file call. No error is left out: a file system in user space, and a device, may
//! give any.

use std::io::{self, ErrorKind};

use serde::Serialize;

/// Clients tell them apart by their names: `reason` in the body of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Missing,
    Denied,
    ReadOnly,
    Exists,
    NotDirectory,
    /// A directory, a device, a socket: no file that has content.
    NotFile,
    NotEmpty,
    /// Something uses it: a mount, a program that runs.
    Busy,
    /// No room on the disk, or in a quota.
    Full,
    /// The path, or what is to be done with it, cannot be.
    Invalid,
    /// The file system cannot do it.
    Unsupported,
    /// The machine has no more of something: memory, descriptors.
    Exhausted,
    /// The device or file system failed.
    Io,
    /// The bytes of an upload are not in the encoding that it names.
    Encoding,
}

impl Reason {
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => of_number(number),
            // Made by the standard library itself, before it asked the kernel.
            None => match error.kind() {
                ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::InvalidFilename => {
                    Self::Invalid
                }
                ErrorKind::Unsupported => Self::Unsupported,
                _ => Self::Io,
            },
        }
    }
}

fn of_number(number: i32) -> Reason {
    match number {
        libc::ENOENT => Reason::Missing,
        libc::EACCES
        | libc::EPERM
        | libc::ENOKEY
        | libc::EKEYEXPIRED
        | libc::EKEYREVOKED
        | libc::EKEYREJECTED => Reason::Denied,
        libc::EROFS => Reason::ReadOnly,
        libc::EEXIST => Reason::Exists,
        libc::ENOTDIR => Reason::NotDirectory,
        libc::EISDIR | libc::ENXIO | libc::ENODEV | libc::ENOTBLK => Reason::NotFile,
        libc::ENOTEMPTY => Reason::NotEmpty,
        libc::EBUSY | libc::ETXTBSY | libc::EDEADLK => Reason::Busy,
        libc::ENOSPC | libc::EDQUOT => Reason::Full,
        libc::EINVAL
        | libc::ENAMETOOLONG
        | libc::ELOOP
        | libc::EILSEQ
        | libc::EBADF
        | libc::EFAULT
        | libc::E2BIG
        | libc::ERANGE
        | libc::EDOM => Reason::Invalid,
        libc::EOPNOTSUPP
        | libc::ENOSYS
        | libc::ENOTTY
        | libc::EXDEV
        | libc::ESPIPE
        | libc::EFBIG
        | libc::EOVERFLOW
        | libc::EMLINK => Reason::Unsupported,
        libc::ENOMEM
        | libc::EMFILE
        | libc::ENFILE
        | libc::ENOBUFS
        | libc::EUSERS
        | libc::ENOLCK => Reason::Exhausted,
        _ => Reason::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_that_the_kernel_may_return_has_a_reason() {
        // 4095 is the largest, MAX_ERRNO of linux/err.h.
        let reasons: Vec<Reason> =
            (1..=4095).map(|number| Reason::of(&io::Error::from_raw_os_error(number))).collect();
        assert!(!reasons.contains(&Reason::Encoding));
        let at = |number: i32| reasons[number as usize - 1];
        assert_eq!((at(libc::ENOENT), at(libc::EROFS)), (Reason::Missing, Reason::ReadOnly));
        for number in [libc::EIO, libc::EUCLEAN, 4095] {
            assert_eq!(at(number), Reason::Io);
        }
        // Of a file that has nothing to read for now, such as /proc/kmsg: nothing is to be unmounted.
        assert_eq!(at(libc::EAGAIN), Reason::Io);
    }

    #[test]
    fn errors_without_a_number_have_one_too() {
        let nul = std::fs::File::open("a\0b").unwrap_err();
        assert_eq!(Reason::of(&nul), Reason::Invalid);
        assert_eq!(Reason::of(&ErrorKind::WriteZero.into()), Reason::Io);
    }
}
