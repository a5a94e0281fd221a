//! Files and directories of the guest, as `filesystem.Filesystem` shows and changes them.
//!
//! Everything is done as the agent (root in a guest) and then given to the user, as E2B does.

mod change;
mod copy;
mod entry;
mod list;
mod metadata;
mod mode;
mod mounts;
mod owner;
mod page;
mod random;
mod relocate;
mod service;
mod side;

pub use entry::modified_time;
pub use metadata::{Metadata, read as read_metadata, replace as replace_metadata};
pub use owner::{Made, Owner, make_parents};
pub use random::random_suffix;
pub use service::{list_dir, list_page, make_dir, remove, rename, stat};
