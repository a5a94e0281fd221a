//! Names that are not UTF-8, as text, for which there is no other way through JSON and URLs.
//!
//! A byte that belongs to no character is written as one of 128 characters for private use: byte `0x80 + n` as
//! U+10FE80 + n, which is U+10FE00 + the byte. Where a name has one of these characters itself, its four bytes
//! are written so. All other text is what it is. So each name has one form, and each form is one name.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const FIRST: u32 = 0x10_FE80;
const LAST: u32 = 0x10_FEFF;

pub fn to_text(name: impl AsRef<OsStr>) -> String {
    let mut text = String::with_capacity(name.as_ref().len());
    for chunk in name.as_ref().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter as u32 {
                FIRST..=LAST => {
                    let mut bytes = [0; 4];
                    letter.encode_utf8(&mut bytes).bytes().for_each(|byte| push(&mut text, byte));
                }
                _ => text.push(letter),
            }
        }
        chunk.invalid().iter().for_each(|byte| push(&mut text, *byte));
    }
    text
}

pub fn from_text(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match letter as u32 {
            number @ FIRST..=LAST => bytes.push(number as u8),
            _ => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    OsString::from_vec(bytes)
}

/// Only bytes from 0x80 on belong to no character of their own.
fn push(text: &mut String, byte: u8) {
    let letter = char::from_u32(FIRST - 0x80 + u32::from(byte));
    text.extend(letter);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_comes_back_as_the_bytes_that_it_was(bytes: Vec<u8>) {
            let name = OsString::from_vec(bytes);
            prop_assert_eq!(from_text(&to_text(&name)), name);
        }

        #[test]
        fn so_does_one_that_has_the_characters_of_the_escape(
            parts in prop::collection::vec(prop_oneof![
                (FIRST..=LAST).prop_map(|n| char::from_u32(n).unwrap().to_string().into_bytes()),
                (0x80..=0xffu8).prop_map(|byte| vec![byte]),
                "[a-zä€😀]{0,2}".prop_map(String::into_bytes),
            ], 0..12)
        ) {
            let name = OsString::from_vec(parts.concat());
            prop_assert_eq!(from_text(&to_text(&name)), name);
        }

        #[test]
        fn a_name_of_ordinary_text_is_that_text(text in "[^\u{10FE80}-\u{10FEFF}]{0,20}") {
            prop_assert_eq!(to_text(&text), text.clone());
            prop_assert_eq!(from_text(&text), OsString::from(text));
        }

        #[test]
        fn no_text_makes_a_slash_or_nul_that_it_does_not_show(text: String) {
            let count = |bytes: &[u8], one: u8| bytes.iter().filter(|byte| **byte == one).count();
            for byte in [b'/', 0] {
                prop_assert_eq!(
                    count(from_text(&text).as_bytes(), byte),
                    count(text.as_bytes(), byte)
                );
            }
        }
    }

    #[test]
    fn a_byte_is_a_character_for_private_use() {
        assert_eq!(to_text(OsStr::from_bytes(b"a\xffb\x80")), "a\u{10FEFF}b\u{10FE80}");
        let own = "\u{10FE80}";
        assert_eq!(to_text(own).chars().count(), 4);
    }
}
