//! The promises to clients of the guest agent, shown by the program itself: each test starts
//! `perch-guest serve` as an ordinary process and speaks HTTP to it.

mod network;
mod support;

mod archives;
mod authorization;
mod background;
mod backpressure;
mod commands;
mod connect;
mod disconnect;
mod downloads;
mod exec;
mod filesystem;
mod initialization;
mod keepalive;
mod moves;
mod protocol;
mod restore;
mod signals;
mod stdin;
mod stream_input;
mod terminal;
mod timeouts;
mod uploads;
mod users;
mod watching;
