/** The steps of a directory into a sandbox, for its `sh`. A path in them has no `-` at its beginning. */

/**
 * $1: the directory that is to be. Makes an empty one on the same file system, in it or in the nearest directory above
 * that is there, and prints its path. Beside it where it is the user's, and read-only.
 */
export const stage = `
at=$1
while [ ! -e "$at" ]; do at=$(dirname "$at"); done
[ -d "$at" ] || { echo "$at is no directory" >&2; exit 1; }
if [ "$at" = "$1" ] && [ ! -w "$at" ] && [ -O "$at" ]; then at=$(dirname "$at"); fi
exec mktemp -d "$at/.perch-XXXXXXXX"`;

/** $1: the directory of `stage`. */
export const unpack = 'exec tar --extract --preserve-permissions --file=- --directory="$1"';

/**
 * $1, $2: as of `join`; the rest: what is to join, the directory of `stage` too. Fails for a directory in the place of
 * another thing, or the other way, and where the user may not write.
 */
const check = `
stage=$1 to=$2
shift 2
fail() { echo "$1" >&2; exit 1; }
for new; do
  old=$to\${new#"$stage"}
  if [ -d "$new" ] && [ ! -L "$new" ]; then
    if [ "$new" != "$stage" ] && [ -L "$old" ]; then fail "$old is there already, and no directory"; fi
    [ -e "$old" ] || continue
    [ -d "$old" ] || fail "$old is there already, and no directory"
    # The mode that it has: whether the user may change it.
    [ -x "$old" ] && { [ -w "$old" ] || chmod "$(stat -Lc %a "$old")" "$old" 2>/dev/null; } ||
      fail "$old may not be written"
  elif [ -L "$old" ] || [ -e "$old" ]; then
    [ -L "$old" ] || [ ! -d "$old" ] || fail "$old is there already, and a directory"
    in=$(dirname "$old")
    if [ -k "$in" ] && [ "$(id -u)" != 0 ] && [ ! -O "$in" ]; then
      [ "$(stat -c %u "$old")" = "$(id -u)" ] || fail "$old may not be replaced"
    fi
  fi
done`;

/** $1, $2: a directory and the one that is there; the rest: what is in the first. Passes over directories that are in both. */
const link = `
stage=$1 to=$2
shift 2
for new; do
  shift
  if [ -L "$new" ] || [ ! -d "$new" ] || [ ! -e "$to\${new#"$stage"}" ]; then set -- "$@" "$new"; fi
done
[ $# != 0 ] || exit 0
cp -alf -t "$to/." "$@" 2>/dev/null || cp -a --remove-destination -t "$to/." "$@"`;

/** $1, $2: as of `join`; $link: the script; the rest: directories, each after those in it. A read-only one is made writable for the moment. */
const joinEach = `
stage=$1 to=$2
shift 2
for new; do
  old=$to\${new#"$stage"}
  [ -d "$old" ] || continue
  mode=
  [ -w "$old" ] || { mode=$(stat -Lc %a "$old") && chmod u+w "$old"; } || exit 1
  find "$new" -mindepth 1 -maxdepth 1 -exec sh -c "$link" sh "$new" "$old" {} +
  code=$?
  [ -z "$mode" ] || chmod "$mode" "$old"
  [ $code = 0 ] || exit $code
done`;

/** $1: the directory of `stage`. Its files may be those of a directory that it joined, and keep their modes. */
const remove = `
find "$1" -type d -exec chmod u+rwx {} \\;
rm -rf "$1"`;

/**
 * $1: the directory of `stage`; $2: the one that is to be, or a link to it. It takes its name where that is free. What
 * joins another is linked into it, which takes neither room nor time, and copied where a file system has no links or
 * another is mounted; directories that are there keep their modes. Nothing changes before all of it has been checked.
 */
export const join = `
set -e
if [ -d "$2" ]; then
  find "$1" -exec sh -c '${check}' sh "$1" "$2" {} +
  export link='${link}' each='${joinEach}'
  find "$1" -depth -type d -exec sh -c 'eval "$each"' sh "$1" "$2" {} +
  ${remove}
else
  mode=$(stat -c %a "$1")
  time=$(stat -c %y "$1")
  chmod u+w "$1"
  in=$(dirname "$2")
  mkdir -p "$in" && mv -T "$1" "$2" || {
    # Up to the one that the directory of stage is in, and that is not empty therefore.
    while [ ! -d "$in" ]; do in=$(dirname "$in"); done
    rmdir -p "$in" 2>/dev/null || true
    exit 1
  }
  chmod "$mode" "$2"
  touch -d "$time" "$2"
fi`;

/** $1: the directory of `stage`. */
export const discard = remove;
