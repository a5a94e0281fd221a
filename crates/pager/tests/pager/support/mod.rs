pub mod chain;
pub mod client;
pub mod pager;
pub mod random;
