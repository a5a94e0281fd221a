//! The agent's part of the machine.

/// Whether the agent owns the machine that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// It is process 1: clock, entropy, names and control groups are its to set.
    Own,
    /// It is an ordinary process, but alone in its network namespace: connections are its to reset.
    Network,
    /// It is an ordinary process on somebody's machine.
    Foreign,
}

impl Machine {
    pub fn owns_network(self) -> bool {
        self != Self::Foreign
    }
}
