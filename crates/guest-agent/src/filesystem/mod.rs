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
mod own_name;
mod owner;
mod page;
mod relocate;
mod service;
mod side;

pub use entry::{EntryInfo, describe, modified_time};
pub use metadata::{Metadata, read as read_metadata, replace as replace_metadata};
pub use own_name::OwnName;
pub use owner::{Made, Owner, make_parents};
pub use service::{list_dir, list_page, make_dir, remove, rename, resolve, stat};
