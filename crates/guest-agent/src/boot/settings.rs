//! Settings of the kernel, and of this process.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::report::step;

/// Each is a default of some distribution or container engine that programs have come to expect.
const KERNEL: [(&str, &str); 6] = [
    // Process 1 cannot be replaced: when it dies, so must the machine, at once.
    ("kernel/panic", "-1"),
    ("fs/inotify/max_user_instances", "1024"),
    ("fs/inotify/max_user_watches", "524288"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
    // The network carries IPv4 alone; an address that leads nowhere only costs time-outs. Interfaces that the
    // guest's root adds lead where root likes.
    ("net/ipv6/conf/eth0/disable_ipv6", "1"),
    ("net/core/somaxconn", "4096"),
];

/// The host orders and throttles what reaches its disk; to do so twice only costs the guest's time.
const DISK: [(&str, &str); 2] = [("scheduler", "none"), ("wbt_lat_usec", "0")];

/// Three descriptors a process, and one a connection.
const OWN_FILES: u64 = 16_384;
const MAX_FILES: u64 = 1_048_576;

pub fn apply() {
    for (name, value) in KERNEL {
        // A kernel without the feature has no such setting.
        let _ = fs::write(format!("/proc/sys/{name}"), value);
    }
    for (name, value) in DISK {
        let _ = fs::write(format!("/sys/block/vda/queue/{name}"), value);
    }
    let limit = Rlimit { current: Some(OWN_FILES), maximum: Some(MAX_FILES) };
    step("file limit", setrlimit(Resource::Nofile, limit));
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_to_the_host_alone_is_without_ipv6() {
        let without = KERNEL.iter().filter(|(name, _)| name.ends_with("/disable_ipv6"));
        assert_eq!(without.collect::<Vec<_>>(), [&("net/ipv6/conf/eth0/disable_ipv6", "1")]);
    }
}
