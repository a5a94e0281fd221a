//! Kernel modules, in the order that their dependencies need.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::system::{finit_module, uname};

use super::report::report;

/// Where `modprobe` looks, and where the initramfs has them too.
const ON_DEMAND: &str = "/lib/modules";

/// Loads the files that `order` in the folder names, one a line. Each failure is printed: which
/// of them matters shows soon enough.
pub fn load_all(folder: &Path) {
    let order = match fs::read_to_string(folder.join("order")) {
        Ok(order) => order,
        // A kernel with everything built in comes without modules.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return report("modules", error),
    };
    for name in names(&order) {
        if let Err(error) = load(&folder.join(name)) {
            report(format_args!("module {name}"), error);
        }
    }
}

/// The modules for later: of this kernel, for any root disk. They stay in the initramfs's memory.
pub struct OnDemand {
    path: PathBuf,
    /// A mount of its own that has no place yet.
    tree: OwnedFd,
}

impl OnDemand {
    /// Takes hold of them while the initramfs can be seen; `None` when the kernel came without.
    pub fn take() -> io::Result<Option<Self>> {
        let path = Path::new(ON_DEMAND).join(uname().release().to_string_lossy().as_ref());
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        match open_tree(CWD, &path, flags) {
            Ok(tree) => Ok(Some(Self { path, tree })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows them at their path below the root as it is now.
    pub fn place(self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        Ok(move_mount(&self.tree, "", CWD, &self.path, flags)?)
    }
}

fn names(order: &str) -> impl Iterator<Item = &str> {
    order.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn load(path: &Path) -> io::Result<()> {
    match finit_module(File::open(path)?, c"", 0) {
        Err(Errno::EXIST) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_and_empty_lines_are_not_modules() {
        let order = "virtio.ko\n\n  virtio_blk.ko \n# no\next4.ko";
        assert_eq!(names(order).collect::<Vec<_>>(), ["virtio.ko", "virtio_blk.ko", "ext4.ko"]);
    }
}
