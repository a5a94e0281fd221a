//! Kernel modules, in the order that their dependencies need.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::system::finit_module;

use super::report;

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
