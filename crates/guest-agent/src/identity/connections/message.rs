//! Messages of sock_diag(7): requests as the kernel reads them, and what it answers.
//!
//! Layouts are those of linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h. Ports and
//! addresses are in network order, everything else in the machine's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ends::Ends;

const HEADER: usize = 16;
/// `struct inet_diag_req_v2`
const REQUEST: usize = 56;
/// `struct inet_diag_sockid`, and where it lies in `struct inet_diag_msg`.
const ID: usize = 48;
const ID_AT: usize = 4;
/// `idiag_inode` of `struct inet_diag_msg`, its last field.
const INODE_AT: usize = 68;

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;

// States of a TCP socket, from net/tcp_states.h.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const SYN_RECEIVED: u8 = 3;
const FIN_WAIT_1: u8 = 4;
const FIN_WAIT_2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

/// All in which a program may still wait for its peer.
const CONNECTED: [u8; 8] =
    [ESTABLISHED, SYN_SENT, SYN_RECEIVED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, LAST_ACK, CLOSING];

/// One socket of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    family: u8,
    state: u8,
    /// 0 when no program holds it.
    inode: u32,
    /// Names the socket: ends, interface and the kernel's cookie, handed back as they came.
    id: [u8; ID],
}

impl Entry {
    pub fn ends(&self) -> Ends {
        let address = |at: usize| match libc::c_int::from(self.family) {
            libc::AF_INET => IpAddr::from(Ipv4Addr::from(array::<4>(&self.id, at))),
            _ => IpAddr::from(Ipv6Addr::from(array::<16>(&self.id, at))),
        };
        let port = |at: usize| u16::from_be_bytes(array(&self.id, at));
        Ends::new(SocketAddr::new(address(4), port(0)), SocketAddr::new(address(20), port(2)))
    }

    /// Its program has closed it, so that nobody waits for it, and the kernel ends it by itself.
    /// A connection that no program has accepted yet is another matter.
    pub fn is_abandoned(&self) -> bool {
        self.inode == 0 && matches!(self.state, FIN_WAIT_1 | FIN_WAIT_2 | LAST_ACK | CLOSING)
    }
}

/// Asks for all connections of an address family.
pub fn list(family: u8, sequence: u32) -> Vec<u8> {
    let states = CONNECTED.iter().fold(0, |states, state| states | 1 << state);
    request(BY_FAMILY, libc::NLM_F_DUMP, sequence, family, states, &[0; ID])
}

/// Asks to reset one, and for word that it was done.
pub fn destroy(entry: &Entry, sequence: u32) -> Vec<u8> {
    request(DESTROY, libc::NLM_F_ACK, sequence, entry.family, u32::MAX, &entry.id)
}

fn request(
    kind: u16,
    flags: libc::c_int,
    sequence: u32,
    family: u8,
    states: u32,
    id: &[u8; ID],
) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + REQUEST);
    message.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    // The port, which the kernel knows.
    message.extend([0; 4]);
    message.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.extend(id);
    message
}

/// Whether more is to come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    More,
    Done,
}

/// Reads what one receive has given, and adds its entries to `entries`.
pub fn parse(bytes: &[u8], sequence: u32, entries: &mut Vec<Entry>) -> io::Result<Progress> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let header = rest.get(..HEADER).ok_or_else(malformed)?;
        let length = u32::from_ne_bytes(array(header, 0)) as usize;
        let body = rest.get(HEADER..length).ok_or_else(malformed)?;
        // Messages start at multiples of four; the last one may lack its padding.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if u32::from_ne_bytes(array(header, 8)) != sequence {
            continue;
        }
        match u16::from_ne_bytes(array(header, 4)) {
            // Both begin with a negative error number, or 0 when all went well.
            ERROR | DONE => {
                let number = body.first_chunk().ok_or_else(malformed)?;
                return match i32::from_ne_bytes(*number) {
                    0 => Ok(Progress::Done),
                    number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
                };
            }
            BY_FAMILY => entries.push(entry(body).ok_or_else(malformed)?),
            _ => {}
        }
    }
    Ok(Progress::More)
}

fn entry(body: &[u8]) -> Option<Entry> {
    let id = body.get(ID_AT..)?.first_chunk()?;
    let inode = body.get(INODE_AT..)?.first_chunk()?;
    let (family, state) = (body[0], body[1]);
    Some(Entry { family, state, inode: u32::from_ne_bytes(*inode), id: *id })
}

/// `N` bytes at a place that the caller knows to be there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is malformed")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message
    }

    /// `struct inet_diag_msg` of 169.254.0.21:8080 → 10.0.0.1:443.
    fn socket(state: u8, inode: u32) -> Vec<u8> {
        let mut body = vec![libc::AF_INET as u8, state, 0, 0];
        body.extend(8080u16.to_be_bytes());
        body.extend(443u16.to_be_bytes());
        body.extend([169, 254, 0, 21].iter().chain(&[0; 12]));
        body.extend([10, 0, 0, 1].iter().chain(&[0; 12]));
        body.extend([2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        body.extend([0; 16]);
        body.extend(inode.to_ne_bytes());
        body
    }

    #[test]
    fn a_list_is_read_and_its_entries_are_handed_back() {
        let mut bytes = message(BY_FAMILY, 7, &socket(ESTABLISHED, 9));
        // Attributes follow the fixed part.
        bytes.extend(message(BY_FAMILY, 7, &[socket(FIN_WAIT_2, 0), vec![5, 0, 8, 0, 1]].concat()));
        bytes.extend([0; 3]);
        let mut entries = Vec::new();
        assert_eq!(parse(&bytes, 7, &mut entries).unwrap(), Progress::More);
        assert_eq!(parse(&message(DONE, 7, &[0; 4]), 7, &mut entries).unwrap(), Progress::Done);
        let ends = Ends {
            local: "169.254.0.21:8080".parse().unwrap(),
            remote: "10.0.0.1:443".parse().unwrap(),
        };
        assert_eq!(entries.iter().map(Entry::ends).collect::<Vec<_>>(), [ends, ends]);
        assert_eq!(entries.iter().map(Entry::is_abandoned).collect::<Vec<_>>(), [false, true]);

        let request = destroy(&entries[0], 8);
        assert_eq!(request.len(), HEADER + REQUEST);
        assert_eq!(request[..4], 72u32.to_ne_bytes());
        assert_eq!(request[4..8], [21, 0, 5, 0]);
        assert_eq!(request[8..12], 8u32.to_ne_bytes());
        assert_eq!(request[16..18], [libc::AF_INET as u8, 6]);
        assert_eq!(request[24..], socket(ESTABLISHED, 9)[4..52]);
    }

    #[test]
    fn what_listens_is_not_asked_for() {
        let request = list(libc::AF_INET6 as u8, 1);
        assert_eq!(request[4..8], [20, 0, 1, 3]);
        let states = u32::from_ne_bytes(array(&request, 20));
        // CLOSE_WAIT is asked for; TIME_WAIT, CLOSE and LISTEN are not.
        assert_eq!([8, 6, 7, 10].map(|state| states >> state & 1), [1, 0, 0, 0]);
    }

    #[test]
    fn an_error_keeps_its_number_and_answers_to_others_are_passed_over() {
        let error = message(ERROR, 3, &(-libc::EOPNOTSUPP).to_ne_bytes());
        let number =
            |sequence| parse(&error, sequence, &mut Vec::new()).map_err(|e| e.raw_os_error());
        assert_eq!(number(3), Err(Some(libc::EOPNOTSUPP)));
        assert_eq!(number(4), Ok(Progress::More));
    }

    #[test]
    fn a_message_that_lies_about_its_length_is_refused() {
        for length in [0u32, 15, 17, u32::MAX] {
            let mut bytes = message(BY_FAMILY, 1, &[]);
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(parse(&bytes, 1, &mut Vec::new()).is_err(), "{length}");
        }
        let short = message(BY_FAMILY, 1, &socket(ESTABLISHED, 1)[..71]);
        assert!(parse(&short, 1, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_fail_otherwise(
            kind in prop_oneof![Just(ERROR), Just(DONE), Just(BY_FAMILY), any::<u16>()],
            body in prop::collection::vec(any::<u8>(), 0..120),
            garbage in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut entries = Vec::new();
            let _ = parse(&[message(kind, 1, &body), garbage].concat(), 1, &mut entries);
            prop_assert!(entries.iter().all(|entry| entry.ends() == entry.ends()));
        }
    }
}
