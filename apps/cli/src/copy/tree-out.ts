/**
 * A directory of a sandbox, with all that is below, as a new one of this machine: file by file, from the agent of an older
 * snapshot. The guest is hostile: it says what there is, and may say other things the next time.
 */
import { chmod, lutimes, mkdir, symlink, utimes } from 'node:fs/promises';
import type { FileEntry, Perch } from '@perch/sdk';
import { type Attributes, permissionBits, secondsOf, settable } from './attributes.ts';
import { budgetOf, inside, isSingleName, refused, whole } from './fresh-tree.ts';
import { writeNew } from './local.ts';
import { bytesOfName, keyOf } from './names.ts';
import { Together } from './together.ts';

/** What is asked of the guest. */
export type GuestFiles = Pick<Perch['sandboxes']['files'], 'all' | 'download'>;

export interface SaveOptions {
  files: GuestFiles;
  id: string;
  /** What links say, by the `keyOf` their path below the directory; the others are made to lead where the listing says. */
  links: ReadonlyMap<string, Buffer>;
  /** Passes on the content of a file. */
  through: (content: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Told of what is neither file, directory nor link, and is left out. */
  leftOut: (path: string) => void;
  signal: AbortSignal;
}

/** Files on their way at once: small ones take longer to ask for than to come. Each holds a piece of its content. */
const mostDownloads = 8;

/**
 * The directory appears whole or not at all, where nothing may be: it is filled under another name. Nothing is written
 * outside of it: names are single ones, each is made anew, and links come last in their directory, when all else that is
 * below it has come and nobody goes there any more.
 * @throws CliError where `to` is there already, or the guest says what cannot be
 */
export async function saveTree(
  options: SaveOptions,
  from: string,
  to: string,
  attributes: Attributes,
): Promise<void> {
  await whole(to, async (partial) => {
    const together = new Together(options.signal, mostDownloads);
    const tree = new Tree(options, from.replace(/\/+$/, ''), together);
    await together.start(() => tree.save({ below: '', to: partial, attributes, depth: 0 }));
    await together.end();
  });
}

interface Directory {
  /** '', or a path below the first one with a slash at its end. */
  below: string;
  to: Buffer;
  attributes: Attributes;
  depth: number;
}

type Link = [path: Buffer, target: Buffer, Attributes];

class Tree {
  readonly #options: SaveOptions;
  /** Without a slash at its end; '' is the root of the sandbox. */
  readonly #from: string;
  readonly #together: Together;
  readonly #budget = budgetOf();

  constructor(options: SaveOptions, from: string, together: Together) {
    this.#options = options;
    this.#from = from;
    this.#together = together;
  }

  /** Goes through all of it, one directory after another. Resolves while files are still on their way. */
  async save(directory: Directory, among?: Set<Promise<void>>): Promise<void> {
    const { below, to, depth } = directory;
    const { files, id, links: known, leftOut } = this.#options;
    const { signal } = this.#together;
    const from = `${this.#from}/${below}`;
    this.#budget.directory(from, depth);
    await mkdir(to, { mode: 0o700 });
    const links: Link[] = [];
    const underWay = new Set<Promise<void>>();
    for await (const entry of files.all(id, from, { signal })) {
      this.#budget.entry(from);
      const { name } = entry;
      const target = inside(to, singleName(name));
      const source = `${from}${name}`;
      if (entry.symlink_target !== undefined) {
        const says = known.get(keyOf(`${below}${name}`)) ?? bytesOfName(entry.symlink_target);
        this.#budget.kept(source, says.length);
        links.push([target, says, attributesOf(entry)]);
      } else if (entry.type === 'directory') {
        const its = { below: `${below}${name}/`, to: target, attributes: attributesOf(entry) };
        await this.save({ ...its, depth: depth + 1 }, underWay);
      } else if (entry.type === 'file') {
        await this.#together.startInTurn(() => this.#download(source, target), underWay);
      } else {
        leftOut(source);
      }
    }
    void this.#together.start(() => this.#finish(directory, underWay, links), among);
  }

  async #download(source: string, target: Buffer): Promise<void> {
    const { files, id, through } = this.#options;
    const { signal } = this.#together;
    const { stream, mode, modified_at: modifiedAt } = await files.download(id, source, { signal });
    await writeNew(target, through(stream), { mode, modifiedAt });
  }

  /** Mode and time of a directory come last: its mode may keep its owner out, and whatever is made in it sets its time. */
  async #finish({ to, attributes }: Directory, underWay: Set<Promise<void>>, links: Link[]): Promise<void> {
    await Promise.all(underWay);
    for (const [path, target, its] of links) {
      this.#together.signal.throwIfAborted();
      await link(target, path, its);
    }
    await chmod(to, (attributes.mode ?? permissionBits) & permissionBits & ~process.umask());
    const seconds = secondsOf(attributes.modifiedAt);
    if (seconds !== undefined) await utimes(to, new Date(), settable(seconds));
  }
}

function attributesOf({ mode, modified_at: modifiedAt }: FileEntry): Attributes {
  return { mode, modifiedAt };
}

/** @throws CliError for what is no single name */
function singleName(name: string): Buffer {
  const bytes = bytesOfName(name);
  if (isSingleName(bytes)) return bytes;
  throw refused(name, 'is no name of a file');
}

async function link(target: Buffer, path: Buffer, { modifiedAt }: Attributes): Promise<void> {
  await symlink(target, path);
  const seconds = secondsOf(modifiedAt);
  if (seconds !== undefined) await lutimes(path, new Date(), settable(seconds));
}
