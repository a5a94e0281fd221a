//! Processes that clients start in the guest.
//!
//! A process is a session of its own, and in a guest a control group of its own too. It is not
//! tied to the stream of the client that started it. Its life:
//!
//! ```text
//! Start ─▶ child ─▶ exec reported ─▶ live ─▶ main process reaped ─▶ output settled ─▶ finished
//!                      │ error            (signals, input, streams)        streams get `end`
//!                      ▼
//!                  refused                finished ones are remembered for a while, for Connect
//! ```
//!
//! `reaper` is the only caller of wait; `supervisor` owns the steps after `live`; `pump` carries
//! output from a pipe to the `hub`, which hands it to every subscriber at the slowest one's pace.

mod brief;
mod cgroup;
mod child;
mod command;
mod commands;
mod credentials;
mod exit;
mod hub;
mod input;
mod kept;
mod live;
mod messages;
mod output;
mod pump;
mod reaper;
mod registry;
mod service;
mod size;
mod stdio;
mod stream;
mod subscription;
mod supervisor;

pub use commands::{list_commands, read_command, write_input};
pub use reaper::reap;
pub use registry::Processes;
pub use service::{
    close_stdin, connect, list, send_input, send_signal, start, stream_input, update,
};
