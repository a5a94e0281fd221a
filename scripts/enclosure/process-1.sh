#!/bin/bash
# Process 1 of an enclosure, whose end is the end of all: process-1.sh [GROUP MOUNT]... -- COMMAND [ARG]...
# Descriptor 3 ends when the starter does; 4 is the lock of the run folder.
set -euo pipefail

# Groups that are made below MOUNT lie in GROUP, and those of others are not seen.
while [ "$1" != -- ]; do
  mount --bind "$1" "$2"
  shift 2
done
shift
# Names of network namespaces, locks and shared memory are files; these are gone with the last process.
mkdir -p /run/netns /run/perch
for folder in /run/netns /run/perch /dev/shm; do
  mount -t tmpfs -o mode="$(stat -c %a "$folder")" perch-enclosure "$folder"
done
ip link set lo up

"$@" 3<&- 4<&- &
command=$!
{
  read -r <&3 || true
  kill -TERM "$command"
  sleep 30
} &
# A shell that waits also reaps what was orphaned.
wait -n "$command" $!
