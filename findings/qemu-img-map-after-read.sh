#!/usr/bin/env bash
# Finding: what `qemu-img map` says of a raw file changes when somebody reads the file.
#
# A file has 64 MiB of room taken by fallocate(2), of which 1 MiB was written past the page cache. `qemu-img map` gives
# the rest as zeros without data. Then the file is read, by `cat`, and nothing is written. Now all 64 MiB are data.
#
# QEMU asks lseek(2) for SEEK_DATA. For room that was taken and never written (unwritten extents), Linux counts each page
# that is in the page cache as data, and reading puts it there. So does reading ahead: a program that looks for the next
# data after each read goes through all of the room, and a copy that follows the map writes it as zeros.
#
# Seen with QEMU 10.0.2 on ext4 with Linux 6.18, and on XFS with Linux 6.12.
# Needs Debian 12 with backports in its apt sources, and a temporary directory on ext4 or XFS.
set -euo pipefail

version='1:10.0.2+ds-2+deb13u1~bpo12+1'
work=$(mktemp -d "${TMPDIR:-/var/tmp}/finding-XXXXXX")
trap 'rm -rf "$work"' EXIT

# All of its libraries too, into the temporary directory alone.
mkdir -p "$work/archives/partial" "$work/root"
: > "$work/status"
apt-get install --download-only --yes --quiet --quiet --no-install-recommends \
  -o "Dir::Cache::archives=$work/archives" -o "Dir::State::status=$work/status" -o Debug::NoLocking=1 \
  "qemu-utils=$version" > "$work/apt.log" 2>&1 || { cat "$work/apt.log"; exit 1; }
for package in "$work"/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done

qemu_img() {
  local libraries="$work/root/lib/x86_64-linux-gnu:$work/root/usr/lib/x86_64-linux-gnu"
  "$work/root/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" "$work/root/usr/bin/qemu-img" "$@"
}

# Bytes that the map gives as data.
data_bytes() {
  qemu_img map --output=json "$work/disk.raw" |
    sed -n 's/.*"length": \([0-9]*\),.*"data": true.*/\1/p' | awk '{ sum += $1 } END { print sum + 0 }'
}

fallocate --length 64M "$work/disk.raw"
dd if=/dev/zero of="$work/disk.raw" bs=1M count=1 oflag=direct conv=notrunc,fsync status=none
before=$(data_bytes)
cat "$work/disk.raw" > /dev/null
after=$(data_bytes)

qemu_img --version | head -1
echo "file system: $(stat --file-system --format=%T "$work"), $(uname -sr)"
echo "data before the file was read: $before bytes"
echo "data after it was read:        $after bytes"
if [ "$before" = 1048576 ] && [ "$after" = 67108864 ]; then
  echo 'As described: reading a file changes its map.'
else
  echo 'This is not so any more.'
  exit 1
fi
