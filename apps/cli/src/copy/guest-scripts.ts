/** The steps of a directory into a sandbox, for its `sh`. A path in them has no `-` at its beginning. */

/**
 * $1: the directory that is to be. Makes an empty one on the same file system, in it or in the nearest directory above
 * that is there, and prints its path.
 */
export const stage = `
at=$1
while [ ! -e "$at" ]; do at=$(dirname "$at"); done
[ -d "$at" ] || { echo "$at is no directory" >&2; exit 1; }
exec mktemp -d "$at/.perch-XXXXXXXX"`;

/** $1: the directory of `stage`. */
export const unpack = 'exec tar --extract --preserve-permissions --file=- --directory="$1"';

/** $1, $2: as of `join`; the rest: what is to join. Fails for a directory in the place of another thing, or the other way. */
const clash = `
stage=$1 to=$2
shift 2
for new; do
  old=$to/\${new#"$stage"/}
  if [ -d "$new" ] && [ ! -L "$new" ]; then
    if [ -L "$old" ] || { [ -e "$old" ] && [ ! -d "$old" ]; }; then
      echo "$old is there already, and no directory" >&2
      exit 1
    fi
  elif [ -d "$old" ] && [ ! -L "$old" ]; then
    echo "$old is there already, and a directory" >&2
    exit 1
  fi
done`;

/** $1: the directory of `stage`. Its files may be those of a directory that it joined, and keep their modes. */
const remove = `
find "$1" -type d -exec chmod u+rwx {} \\;
rm -rf "$1"`;

/**
 * $1: the directory of `stage`; $2: the one that is to be, or a link to it. It takes its name where that is free. What
 * joins another is linked into it, which takes neither room nor time, and copied where a file system has no links or
 * another is mounted.
 */
export const join = `
set -e
mode=$(stat -c %a "$1")
time=$(stat -c %y "$1")
chmod u+w "$1"
if [ -d "$2" ]; then
  find "$1" -mindepth 1 -exec sh -c '${clash}' sh "$1" "$2" {} +
  cp -alfT "$1" "$2/." 2>/dev/null || cp -aT --remove-destination "$1" "$2/."
  ${remove}
else
  mkdir -p "$(dirname "$2")"
  mv -T "$1" "$2"
fi
chmod "$mode" "$2"
touch -d "$time" "$2"`;

/** $1: the directory of `stage`. */
export const discard = remove;
