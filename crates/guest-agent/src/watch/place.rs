//! Whether the file system of a directory can be watched.

use std::io;
use std::path::Path;

use rustix::fs::statfs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Local,
    /// Changes that other machines, or a program, make there are not told.
    Network,
    /// It tells no changes at all, and may be larger than any tree.
    Kernel,
}

/// Numbers of statfs(2): NFS, SMB, SMB2, CIFS, FUSE, 9P, Ceph, AFS, Coda.
const NETWORK: [u32; 9] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
];
/// /proc, /sys, both kinds of control groups.
const KERNEL: [u32; 4] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270];

impl Place {
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::of_type(statfs(path)?.f_type as u32))
    }

    fn of_type(number: u32) -> Self {
        if NETWORK.contains(&number) {
            return Self::Network;
        }
        if KERNEL.contains(&number) { Self::Kernel } else { Self::Local }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_and_of_the_kernel_are_told_apart() {
        assert_eq!(Place::of(Path::new("/proc")).unwrap(), Place::Kernel);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Place::of(folder.path()).unwrap(), Place::Local);
        assert_eq!(Place::of_type(0x6969), Place::Network);
        assert!(Place::of(&folder.path().join("missing")).is_err());
    }
}
