//! Faults, on the console.

use std::fmt::Display;

/// Prints what went wrong, and goes on.
pub fn step<E: Display>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        report(what, error);
    }
}

pub fn report(what: impl Display, error: impl Display) {
    eprintln!("perch-guest: {what}: {error}");
}
