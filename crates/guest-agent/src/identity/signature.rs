//! Signed URLs of `/files`: a link that reads or writes one path without the token itself.
//!
//! `v1_` + base64(sha256(`path:read|write:user:token[:expiration]`)) without padding, over the
//! path and user exactly as they stand in the query.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::token::Token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
}

/// The query of a `/files` request.
#[derive(Debug)]
pub struct SignedUrl<'a> {
    pub operation: Operation,
    /// Empty when the query has none.
    pub path: &'a str,
    /// Empty when the query has none.
    pub user: &'a str,
    pub signature: Option<&'a str>,
    /// Unix seconds.
    pub expiration: Option<&'a str>,
}

impl SignedUrl<'_> {
    /// The messages are part of E2B's protocol.
    pub fn verify(&self, token: &Token) -> Result<(), &'static str> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.verify_at(token, now)
    }

    fn verify_at(&self, token: &Token, now: u64) -> Result<(), &'static str> {
        let signature = self.signature.ok_or("missing signature query parameter")?;
        let matches: bool = self.expected(token).as_bytes().ct_eq(signature.as_bytes()).into();
        if !matches {
            return Err("invalid signature");
        }
        match self.expiration.map(str::parse::<u64>) {
            Some(Ok(expiration)) if expiration < now => Err("signature is already expired"),
            Some(Err(_)) => Err("invalid signature expiration"),
            _ => Ok(()),
        }
    }

    fn expected(&self, token: &Token) -> String {
        let operation = match self.operation {
            Operation::Read => "read",
            Operation::Write => "write",
        };
        let mut text = format!("{}:{operation}:{}:{}", self.path, self.user, token.as_str());
        if let Some(expiration) = self.expiration {
            text = format!("{text}:{expiration}");
        }
        format!("v1_{}", STANDARD_NO_PAD.encode(Sha256::digest(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url<'a>(signature: Option<&'a str>, expiration: Option<&'a str>) -> SignedUrl<'a> {
        SignedUrl { operation: Operation::Read, path: "/a b", user: "", signature, expiration }
    }

    fn token() -> Token {
        Token::new("tok".into())
    }

    #[test]
    fn the_signature_is_the_one_e2b_clients_compute() {
        // printf '/a b:read::tok' | openssl dgst -sha256 -binary | base64 | tr -d =
        let expected = "v1_dgCJhR1eFbOEacKLrakWIrQZDgxJ2zP38eGtFIbZ9+8";
        assert_eq!(url(None, None).expected(&token()), expected);
        assert_eq!(url(Some(expected), None).verify(&token()), Ok(()));
    }

    #[test]
    fn a_signature_is_good_for_its_own_operation_user_and_token() {
        let signature = url(None, None).expected(&token());
        let write = SignedUrl { operation: Operation::Write, ..url(Some(&signature), None) };
        let other = SignedUrl { user: "root", ..url(Some(&signature), None) };
        assert_eq!(write.verify(&token()), Err("invalid signature"));
        assert_eq!(other.verify(&token()), Err("invalid signature"));
        let stranger = Token::new("other".into());
        assert_eq!(url(Some(&signature), None).verify(&stranger), Err("invalid signature"));
    }

    #[test]
    fn the_expiration_is_signed_and_kept() {
        let signature = url(None, Some("100")).expected(&token());
        let signed = |expiration| url(Some(&signature), Some(expiration));
        assert_eq!(signed("100").verify_at(&token(), 100), Ok(()));
        assert_eq!(signed("100").verify_at(&token(), 101), Err("signature is already expired"));
        assert_eq!(signed("200").verify_at(&token(), 101), Err("invalid signature"));
        assert_eq!(url(Some(&signature), None).verify(&token()), Err("invalid signature"));
    }

    #[test]
    fn a_missing_signature_is_named() {
        assert_eq!(url(None, None).verify(&token()), Err("missing signature query parameter"));
    }
}
