#!/bin/bash
# Removes a run folder whose starter was killed: sweeper.sh FOLDER [GROUP]...
# Standard input ends when the starter does, and the lock of the folder with the last process of the enclosure.
read -r || true
exec 4>>"$1/lock" || exit 0
flock 4
for group in "${@:2}"; do find "$group" -depth -type d -exec rmdir {} +; done
rm -rf -- "$1"
