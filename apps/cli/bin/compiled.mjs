/**
 * Programs compiled from this checkout: each kind in a folder of `dist/` by the content of its sources, made where it is
 * missing. Which folder that is, is kept beside them with what the file system says of each source, so that a start reads
 * none of them.
 */
const fs = process.getBuiltinModule('node:fs');
const { join, relative } = process.getBuiltinModule('node:path');

const root = join(import.meta.dirname, '../../..');
const dist = join(root, 'dist');
/** Files and folders whose content each kind is compiled from. All packages are in the lock file. */
const sources = {
  cli: ['apps/cli', 'packages', 'images', 'package-lock.json'],
  daemons: [
    'apps/control-plane',
    'apps/host-agent',
    'apps/cli/src/compile',
    'apps/cli/src/launcher',
    'packages',
    'package-lock.json',
  ],
};
/** A file that was changed so shortly ago could change once more without that its times tell. Milliseconds. */
const settledMs = 2000;
const keyLength = 12;

export async function compiled(kind) {
  const folder = join(dist, nameOf(kind));
  if (fs.existsSync(folder)) return folder;
  const { compile } = await import('../src/compile/index.ts');
  return (await compile(kind, { root, folder })) ? folder : undefined;
}

export function nameOf(kind) {
  const note = join(dist, `${kind}.json`);
  const known = readNote(note);
  if (known) return known;
  const began = Date.now();
  const files = sources[kind].flatMap((source) => filesOf(join(root, source))).sort();
  const states = files.map((file) => [relative(root, file), stateOf(file)]);
  const name = `${kind}-${keyOf(files)}`;
  const isSettled = states.every(([, [, changed]]) => changed < began - settledMs);
  if (isSettled) writeNote(note, { name, states });
  return name;
}

/** The name, where each source is as it was. */
function readNote(path) {
  try {
    const { name, states } = JSON.parse(fs.readFileSync(path, 'utf8'));
    const isSame = ([file, state]) => stateOf(join(root, file)).join() === state.join();
    return states.every(isSame) ? name : undefined;
  } catch {
    return undefined;
  }
}

/** It saves the next start some time, and no more: it may fail. */
function writeNote(path, note) {
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    fs.writeFileSync(temporary, JSON.stringify(note), { mode: 0o644 });
    fs.renameSync(temporary, path);
  } catch {
    fs.rmSync(temporary, { force: true });
  }
}

/** The time of the last change is the kernel's own: nobody sets it. */
function stateOf(file) {
  const { ino, ctimeMs, size } = fs.statSync(file);
  return [ino, ctimeMs, size];
}

function keyOf(files) {
  const { createHash } = process.getBuiltinModule('node:crypto');
  const hash = createHash('sha256').update(process.version);
  for (const file of files) {
    const content = fs.readFileSync(file);
    hash.update(`${relative(root, file)}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex').slice(0, keyLength);
}

/** Tests compile to nothing, and a source that is not there is no source. */
function filesOf(path) {
  const found = fs.statSync(path, { throwIfNoEntry: false });
  if (!found?.isDirectory()) return found ? [path] : [];
  return fs
    .readdirSync(path, { withFileTypes: true })
    .filter(({ name }) => name !== 'node_modules' && !name.endsWith('.test.ts'))
    .flatMap((entry) => {
      const inner = join(path, entry.name);
      if (entry.isDirectory()) return filesOf(inner);
      return entry.isFile() ? [inner] : [];
    });
}
