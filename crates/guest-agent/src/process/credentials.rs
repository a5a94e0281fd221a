//! Users by their numbers.

/// Who a child becomes.
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}
