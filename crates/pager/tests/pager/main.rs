//! The promises of the pager, shown by the program itself: each test starts it for a client that maps memory and
//! hands over a real userfaultfd, as a monitor does. Where the kernel gives nobody one, these tests say so and do nothing.
//!
//! `PERCH_PAGER_FAULTS=1000000 cargo test --release -p perch-pager` takes a million faults instead of thousands,
//! and `PERCH_PAGER_RESTORES=2000` two thousand restores instead of some.

mod config;
mod confinement;
mod end;
mod events;
mod faults;
mod hand_off;
mod header;
mod place;
mod restores;
mod support;
mod working_set;
