//! A piece of a process's output, in the form that its reader asked for.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::rpc::{HEAD, raw_frame};

/// Flags of frames that are output and nothing else. Not in E2B's protocol.
const STDOUT: u8 = 0x10;
const STDERR: u8 = 0x20;
const TERMINAL: u8 = 0x30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"event":{"data":{"stdout":"…"}}}` with base64.
    Json,
    /// A frame of the bytes themselves: to encode them costs a guest several times what passing them on does.
    Raw,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    name: &'static str,
    /// Raw, with its head.
    frame: Bytes,
}

impl Output {
    pub fn new(name: &'static str, bytes: &[u8]) -> Self {
        Self { name, frame: raw_frame(flags(name), &[bytes]) }
    }

    /// `frame` has room for a head before its bytes, which are not copied again.
    pub fn in_place(name: &'static str, mut frame: Vec<u8>) -> Self {
        let length = (frame.len() - HEAD) as u32;
        frame[0] = flags(name);
        frame[1..HEAD].copy_from_slice(&length.to_be_bytes());
        Self { name, frame: frame.into() }
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn bytes(&self) -> &[u8] {
        &self.frame[HEAD..]
    }

    pub fn into_frame(self, form: Form) -> Bytes {
        match form {
            Form::Raw => self.frame,
            Form::Json => json(self.name, self.bytes()),
        }
    }
}

fn flags(name: &str) -> u8 {
    match name {
        "stdout" => STDOUT,
        "stderr" => STDERR,
        _ => TERMINAL,
    }
}

/// Neither the name nor base64 needs escaping.
fn json(name: &str, bytes: &[u8]) -> Bytes {
    let encoded = STANDARD.encode(bytes);
    let parts =
        [br#"{"event":{"data":{""#, name.as_bytes(), br#"":""#, encoded.as_bytes(), br#""}}}"#];
    raw_frame(0, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_a_data_event_or_the_bytes_themselves() {
        let output = Output::new("stdout", b"hi\n");
        let frame = output.clone().into_frame(Form::Json);
        let event: serde_json::Value = serde_json::from_slice(&frame[HEAD..]).unwrap();
        assert_eq!(event, serde_json::json!({ "event": { "data": { "stdout": "aGkK" } } }));
        assert_eq!(&output.into_frame(Form::Raw)[..], b"\x10\0\0\0\x03hi\n");
        assert_eq!(Output::new("stderr", b"").into_frame(Form::Raw)[0], STDERR);
        assert_eq!(
            Output::in_place("stdout", b"HEAD:hi\n".to_vec()),
            Output::new("stdout", b"hi\n")
        );
    }
}
