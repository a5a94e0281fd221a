//! The sandbox's access token.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Never printed: it has no `Debug`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(token: String) -> Self {
        Self(token)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares digests, so that time tells neither the contents nor the length.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let own = Sha256::digest(self.0.as_bytes());
        own.ct_eq(&Sha256::digest(presented)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new("secret".into());
        assert!(token.matches(b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret"] {
            assert!(!token.matches(wrong));
        }
    }
}
