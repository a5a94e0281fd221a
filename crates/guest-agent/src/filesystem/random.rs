//! Names that nobody else has.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// For names of files beside others.
pub fn random_suffix() -> io::Result<String> {
    let mut bytes = [0; 8];
    // Early in the life of a machine secure bytes may be a long wait; a name needs none.
    getrandom(&mut bytes, GetRandomFlags::INSECURE)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}
