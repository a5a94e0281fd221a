//! The wall clock. A restored guest's stands where the snapshot was taken.
//!
//! It is the only one to set. Time-outs and keepalives run on CLOCK_MONOTONIC, which stands still
//! while the guest does: a command keeps the rest of its time over a pause.

use std::io;

use rustix::time::{ClockId, Timespec, clock_settime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads RFC 3339 with a fraction of up to nine digits.
pub fn parse(text: &str) -> Option<Timespec> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    // A clock before 1970 cannot be set.
    let tv_sec = u32::try_from(time.unix_timestamp()).ok()?.into();
    Some(Timespec { tv_sec, tv_nsec: time.nanosecond().into() })
}

pub fn set(time: Timespec) -> io::Result<()> {
    clock_settime(ClockId::Realtime, time).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_fraction() {
        let time = parse("2026-03-01T00:00:01.123456789Z").unwrap();
        assert_eq!((time.tv_sec, time.tv_nsec), (1_772_323_201, 123_456_789));
        assert_eq!(parse("2026-03-01T02:00:01+02:00").unwrap().tv_sec, 1_772_323_201);
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "yesterday", "2026-03-01", "1960-01-01T00:00:00Z"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
