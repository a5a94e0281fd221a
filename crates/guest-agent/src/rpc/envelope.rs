//! Framing of streams: a flag byte, a 32-bit big-endian length, and that many bytes of JSON.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::json;

use super::{Code, ConnectError};

/// Flag and length.
pub const HEAD: usize = 5;
const END_OF_STREAM: u8 = 0x02;

/// A frame `{"event": …}` of the process service.
pub fn event<T: Serialize>(event: &T) -> Bytes {
    frame(0, &json!({ "event": event }))
}

/// A frame of any other message.
pub fn message<T: Serialize>(message: &T) -> Bytes {
    frame(0, message)
}

/// The frame that closes a stream; without it, a client takes the stream for broken.
pub fn end_of_stream(error: Option<&ConnectError>) -> Bytes {
    match error {
        None => frame(END_OF_STREAM, &json!({})),
        Some(error) => frame(END_OF_STREAM, &json!({ "error": error })),
    }
}

/// The one message of a request that has exactly one.
pub fn only_message(body: &[u8], limit: usize) -> Result<&[u8], ConnectError> {
    let Some((&[flags, a, b, c, d], rest)) = body.split_first_chunk::<HEAD>() else {
        return Err(ConnectError::invalid("the request has no whole envelope"));
    };
    let length = length(flags, [a, b, c, d], limit)?;
    if length != rest.len() {
        return Err(ConnectError::invalid("the envelope's length is not the message's"));
    }
    Ok(rest)
}

/// Takes the next message off the front; `None` as long as it has not come whole.
pub fn next_message(bytes: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, ConnectError> {
    let Some(&[flags, a, b, c, d]) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let length = length(flags, [a, b, c, d], limit)?;
    if bytes.len() < HEAD + length {
        return Ok(None);
    }
    bytes.advance(HEAD);
    Ok(Some(bytes.split_to(length).freeze()))
}

fn length(flags: u8, length: [u8; 4], limit: usize) -> Result<usize, ConnectError> {
    if flags != 0 {
        return Err(ConnectError::new(Code::Unimplemented, "compression is not implemented"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        let message = format!("the message is longer than {limit} bytes");
        return Err(ConnectError::new(Code::ResourceExhausted, message));
    }
    Ok(length)
}

fn frame<T: Serialize>(flags: u8, message: &T) -> Bytes {
    let mut frame = BytesMut::with_capacity(128);
    frame.put_u8(flags);
    frame.put_u32(0);
    let mut writer = frame.writer();
    // These messages are maps of text and numbers; such a value cannot fail to serialize.
    let written = serde_json::to_writer(&mut writer, message);
    let mut frame = writer.into_inner();
    if written.is_err() {
        frame.truncate(HEAD);
    }
    let length = (frame.len() - HEAD) as u32;
    frame[1..HEAD].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// Puts what is encoded already into a frame, for output, where a copy would cost.
pub fn raw_frame(flags: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.put_u8(flags);
    frame.put_u32(length as u32);
    parts.iter().for_each(|part| frame.put_slice(part));
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_says_its_length_and_flag() {
        assert_eq!(&end_of_stream(None)[..], b"\x02\0\0\0\x02{}");
        let error = ConnectError::new(Code::NotFound, "gone");
        let text = br#"{"error":{"code":"not_found","message":"gone"}}"#;
        let frame = end_of_stream(Some(&error));
        assert_eq!(frame[4] as usize, text.len());
        assert_eq!(&frame[HEAD..], text);
    }

    #[test]
    fn a_request_with_anything_but_one_message_is_refused() {
        assert_eq!(only_message(b"\0\0\0\0\x02{}", 10).unwrap(), b"{}");
        assert_eq!(only_message(b"\0\0\0\0\0", 10).unwrap(), b"");
        let refused: [&[u8]; 4] = [b"", b"\0\0\0\0", b"\0\0\0\0\x03{}", b"\0\0\0\0\x02{}\0"];
        for body in refused {
            assert_eq!(only_message(body, 10).unwrap_err().code, Code::InvalidArgument);
        }
        assert_eq!(only_message(b"\x01\0\0\0\0", 10).unwrap_err().code, Code::Unimplemented);
        let long = only_message(b"\0\xff\xff\xff\xff", 10).unwrap_err();
        assert_eq!(long.code, Code::ResourceExhausted);
    }

    #[test]
    fn messages_are_taken_off_as_they_come() {
        let all = [&raw_frame(0, &[b"{}"])[..], &raw_frame(0, &[b"[1]"])].concat();
        let (mut bytes, mut taken) = (BytesMut::new(), Vec::new());
        for byte in &all {
            bytes.extend_from_slice(&[*byte]);
            taken.extend(next_message(&mut bytes, 3).unwrap());
        }
        assert_eq!(taken, [&b"{}"[..], b"[1]"]);
        assert!(bytes.is_empty());
        let long = next_message(&mut BytesMut::from(&b"\0\0\0\0\x04"[..]), 3).unwrap_err();
        assert_eq!(long.code, Code::ResourceExhausted);
    }

    proptest! {
        #[test]
        fn what_was_framed_is_read_back(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let frame = raw_frame(0, &[&message[..message.len() / 2], &message[message.len() / 2..]]);
            prop_assert_eq!(only_message(&frame, 300).unwrap(), &message[..]);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = only_message(&body, 32);
        }
    }
}
