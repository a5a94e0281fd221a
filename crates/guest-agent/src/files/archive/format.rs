//! Entries of a tar stream: those of GNU tar, which has names of any length and any bytes, and times as pax has them.

use tar::{EntryType, Header};

pub const BLOCK: usize = 512;

/// Bytes of a name that a header has room for.
const NAME: usize = 100;
/// The last second that eleven octal digits can say.
const LAST_SECOND: i64 = 0o777_7777_7777;
const LONG: &[u8] = b"././@LongLink";

#[derive(Clone, Copy)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Since 1970.
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// Puts down what comes before the content of an entry, which is to be `size` bytes and padding.
pub fn begin(
    out: &mut Vec<u8>,
    kind: EntryType,
    (name, target): (&[u8], &[u8]),
    size: u64,
    attributes: &Attributes,
) {
    let Attributes { mode, uid, gid, seconds, nanoseconds } = *attributes;
    let second = seconds.clamp(0, LAST_SECOND);
    if nanoseconds != 0 || second != seconds {
        extra(out, EntryType::XHeader, b"pax", &time_record(seconds, nanoseconds));
    }
    if target.len() > NAME {
        extra(out, EntryType::GNULongLink, LONG, &[target, b"\0"].concat());
    }
    if name.len() > NAME {
        extra(out, EntryType::GNULongName, LONG, &[name, b"\0"].concat());
    }
    let mut header = header(kind, name, size);
    let link = &target[..target.len().min(NAME)];
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_mode(mode);
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_mtime(second as u64);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// Zeros up to the end of the last block of `size` bytes.
pub fn pad(out: &mut Vec<u8>, size: u64) {
    let over = (size % BLOCK as u64) as usize;
    if over > 0 {
        out.resize(out.len() + BLOCK - over, 0);
    }
}

/// Two blocks of zeros.
pub fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

/// An entry that says something of the next one.
fn extra(out: &mut Vec<u8>, kind: EntryType, name: &[u8], content: &[u8]) {
    let size = content.len() as u64;
    let mut header = header(kind, name, size);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    pad(out, size);
}

fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    let name = &name[..name.len().min(NAME)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A record of pax, which begins with its own length. A time before 1970 is a fraction of which the whole is negative.
fn time_record(seconds: i64, nanoseconds: u32) -> Vec<u8> {
    let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, time) = (if time < 0 { "-" } else { "" }, time.unsigned_abs());
    let (whole, fraction) = (time / 1_000_000_000, time % 1_000_000_000);
    let text = format!(" mtime={sign}{whole}.{fraction:09}\n");
    // Of two digits, since no time is longer than 30 letters.
    format!("{}{text}", text.len() + 2).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_begins_with_its_length_and_says_any_time() {
        for (seconds, nanoseconds, expected) in [
            (1, 5, "21 mtime=1.000000005\n"),
            (-1, 999_999_999, "22 mtime=-0.000000001\n"),
            (-2, 0, "22 mtime=-2.000000000\n"),
            (i64::MAX, 0, "39 mtime=9223372036854775807.000000000\n"),
        ] {
            let record = String::from_utf8(time_record(seconds, nanoseconds)).unwrap();
            assert_eq!(record, expected);
            assert_eq!(record.len().to_string(), record[..2]);
        }
    }
}
