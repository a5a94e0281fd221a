/**
 * A directory of a sandbox, with all that is below, as a new one of this machine: unpacked from the archive that the
 * guest agent makes. The guest is hostile: its archive says what it likes.
 */
import {
  chmodSync,
  closeSync,
  fstatSync,
  futimesSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { couldSetTime, permissionBits, settable } from './attributes.ts';
import { type Budget, budgetOf, inside, isSingleName, refused, whole } from './fresh-tree.ts';
import { NoArchive, type TarEntry, TarReader } from './tar-reader.ts';

export interface UnpackOptions {
  /** Told of what is neither file, directory nor link, and is left out. */
  leftOut: (path: string) => void;
  /** Told of what has another time, since the file system does not take its own. */
  untimed: (path: string) => void;
  signal: AbortSignal;
}

/**
 * The directory appears whole or not at all, where nothing may be: it is filled under another name. Nothing is written
 * outside of it: an entry is a single new name in a directory that came before, and links come last, when nobody goes
 * there any more.
 * @throws CliError where `to` is there already, or the archive says what cannot be
 */
export async function saveArchive(
  options: UnpackOptions,
  archive: AsyncIterable<Uint8Array>,
  from: string,
  to: string,
): Promise<void> {
  await whole(to, async (partial) => {
    const reader = new TarReader();
    const tree = new Unpacking(from.replace(/\/+$/, ''), partial, options);
    try {
      for await (const chunk of archive) {
        options.signal.throwIfAborted();
        for (const part of reader.push(chunk)) {
          if ('content' in part) tree.write(part.content);
          else tree.add(part.entry);
        }
      }
      reader.end();
      await tree.finish();
    } catch (error) {
      if (!(error instanceof NoArchive)) throw error;
      throw refused(from, `came as no archive that its agent makes: ${error.message}`);
    } finally {
      tree.close();
    }
  });
}

/** Of what is kept until the end bytes are text, in latin1: a short Buffer would keep all of the pool that it is cut from. */
interface Directory {
  mode: number;
  modified: number;
  depth: number;
}

/** Calls of the system are made one after another and waited for: for a small file that takes a third of the time. */
class Unpacking {
  readonly #from: string;
  readonly #to: Buffer;
  readonly #options: UnpackOptions;
  readonly #budget: Budget = budgetOf();
  #calls = 0;
  /** By their path from the first one, which is ''; each after the one that it is in. */
  readonly #directories = new Map<string, Directory>();
  readonly #links: { path: string; target: string; modified: number }[] = [];
  #file: { fd: number; path: string; left: number; modified: number } | undefined;

  constructor(from: string, to: Buffer, options: UnpackOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
  }

  /** What came before it is whole. */
  add(entry: TarEntry): void {
    const { kind, mode, modified } = entry;
    const text = entry.name.toString('latin1').replace(kind === 'directory' ? /\/$/ : /$^/, '');
    if (this.#directories.size === 0) {
      if (kind !== 'directory' || text !== '.') throw new NoArchive('it does not begin with its directory');
      mkdirSync(this.#to, { mode: 0o700 });
      this.#directories.set('', { mode, modified, depth: 0 });
      return;
    }
    const shown = `${this.#from}/${entry.name}`;
    this.#budget.entry(shown);
    const slash = text.lastIndexOf('/');
    const directory = this.#directories.get(slash === -1 ? '' : text.slice(0, slash));
    const name = Buffer.from(text.slice(slash + 1), 'latin1');
    // A path of which each part is a name that was looked at, in directories that were made here.
    if (slash === 0 || !directory || !isSingleName(name)) throw refused(shown, 'is no name of a file');
    const path = this.#pathOf(text);
    if (kind === 'file') {
      this.#file = { fd: openSync(path, 'wx', mode), path: text, left: entry.size, modified };
      this.#closeWhole();
    } else if (kind === 'directory') {
      const depth = directory.depth + 1;
      this.#budget.directory(shown, depth);
      this.#budget.kept(shown, path.length + text.length);
      mkdirSync(path, { mode: 0o700 });
      this.#directories.set(text, { mode, modified, depth });
    } else if (kind === 'link') {
      this.#budget.kept(shown, path.length + entry.target.length);
      this.#links.push({ path: text, target: entry.target.toString('latin1'), modified });
    } else {
      this.#options.leftOut(shown);
    }
  }

  write(content: Buffer): void {
    if (!this.#file) return;
    for (let at = 0; at < content.length; ) at += writeSync(this.#file.fd, content, at);
    this.#file.left -= content.length;
    this.#closeWhole();
  }

  /** Mode and time of a directory come last: its mode may keep its owner out, and whatever is made in it sets its time. */
  async finish(): Promise<void> {
    if (this.#directories.size === 0) throw new NoArchive('it is empty');
    for (const link of this.#links) {
      const path = this.#pathOf(link.path);
      await this.#breath();
      symlinkSync(Buffer.from(link.target, 'latin1'), path);
      const set = () => lutimesSync(path, new Date(), settable(link.modified));
      this.#setTime(link.path, link.modified, set, () => lstatSync(path).mtimeMs);
    }
    const umask = process.umask();
    for (const [below, { mode, modified }] of [...this.#directories].reverse()) {
      const path = this.#pathOf(below);
      await this.#breath();
      chmodSync(path, mode & permissionBits & ~umask);
      const set = () => utimesSync(path, new Date(), settable(modified));
      this.#setTime(below, modified, set, () => lstatSync(path).mtimeMs);
    }
    this.#options.signal.throwIfAborted();
  }

  /** Lets a signal come every now and then, between calls of the system that are waited for. */
  async #breath(): Promise<void> {
    if (++this.#calls % 256 === 0) await setImmediate();
    this.#options.signal.throwIfAborted();
  }

  #setTime(below: string, seconds: number, set: () => void, has: () => number): void {
    if (couldSetTime(seconds, set, has)) return;
    this.#options.untimed(`${this.#from}/${Buffer.from(below, 'latin1')}`);
  }

  #pathOf(below: string): Buffer {
    return below === '' ? this.#to : inside(this.#to, Buffer.from(below, 'latin1'));
  }

  close(): void {
    if (this.#file) closeSync(this.#file.fd);
    this.#file = undefined;
  }

  #closeWhole(): void {
    if (this.#file?.left !== 0) return;
    const { fd, path, modified } = this.#file;
    const set = () => futimesSync(fd, new Date(), settable(modified));
    this.#setTime(path, modified, set, () => fstatSync(fd).mtimeMs);
    this.close();
  }
}
