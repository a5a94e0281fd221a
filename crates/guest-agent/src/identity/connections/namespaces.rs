//! Networks of the guest beside its own, such as those of containers.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Without this module nothing leads from one network namespace to another.
const BRIDGE_BETWEEN: &str = "/sys/module/veth";

/// All that a process of the machine is in, but the caller's own.
pub fn others() -> io::Result<Vec<OwnedFd>> {
    let mut others = Vec::new();
    if !Path::new(BRIDGE_BETWEEN).exists() {
        return Ok(others);
    }
    let mut seen = HashSet::from([fs::metadata("/proc/self/ns/net")?.ino()]);
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()) {
            continue;
        }
        let namespace = match File::open(path.join("ns/net")) {
            Ok(namespace) => namespace,
            // The process has ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        if seen.insert(namespace.metadata()?.ino()) {
            others.push(namespace.into());
        }
    }
    Ok(others)
}
