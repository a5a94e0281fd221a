#!/bin/sh
# Brings a lab that has just booted to where every run goes on from. Runs in the lab, once.
set -eu
modprobe -a kvm_amd tun veth loop dm_mod dm_snapshot xfs \
  nf_tables nft_chain_nat nft_masq nft_nat nft_ct nft_fib_inet nft_reject_inet
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/vdd
mkfs.xfs -q -m reflink=1 /dev/vde
mount /dev/vdd /data/ext4
mount /dev/vde /data/xfs
mount -o ro /dev/vdb /deps
# The memory of a group is given back when files are read and written: otherwise the state would hold them.
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/provision
echo 128M > /sys/fs/cgroup/provision/memory.max
for disk in /data/ext4 /data/xfs; do
  mkdir -p "$disk/tmp"
  chmod 1777 "$disk/tmp"
  sh -c 'echo 0 > /sys/fs/cgroup/provision/cgroup.procs && exec cp -a --sparse=always /artifacts "$1/cache"' sh "$disk"
done
rmdir /sys/fs/cgroup/provision
mkdir -p /perch/node_modules /var/deps/upper /var/deps/work
mount -t overlay -o lowerdir=/deps,upperdir=/var/deps/upper,workdir=/var/deps/work overlay /perch/node_modules
# A run's first command finds Node in memory.
/perch/node_modules/.bin/node -e 0
sync
