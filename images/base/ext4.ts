import { run } from '../commands.ts';

const MIB = 1024 * 1024;
const BLOCK = 4096;
/** Inode tables, bitmaps and group descriptors, as a share of the image. */
const METADATA_SHARE = 0.05;

export type Ext4Options = {
  /** File system id and hash seed, the same in every build. */
  uuid: string;
  features: string;
  journalMiB: number;
  bytesPerInode: number;
  /** Free space of the image as built; a sandbox's disk grows it. */
  slackMiB: number;
  /** Size up to which the mounted file system can grow. */
  growableGiB: number;
};

/** Makes a file system image of a tree without mounting it. Everything is initialized, so that a guest writes nothing idle. */
export async function makeExt4(
  tree: string,
  image: string,
  options: Ext4Options,
  epoch: number,
): Promise<void> {
  const used = Number((await run('du', ['-sB1', tree])).split('\t')[0]);
  const mib = imageMiB(used, options);
  const growable = (options.growableGiB * 1024 * MIB) / BLOCK;
  const extended = [
    `resize=${growable}`,
    `hash_seed=${options.uuid}`,
    'lazy_itable_init=0',
    'lazy_journal_init=0',
    'root_owner=0:0',
  ];
  await run(
    'mke2fs',
    [
      '-q',
      '-F',
      '-t',
      'ext4',
      '-d',
      tree,
      '-U',
      options.uuid,
      '-b',
      String(BLOCK),
      '-i',
      String(options.bytesPerInode),
    ]
      .concat(['-I', '256', '-m', '0', '-J', `size=${options.journalMiB}`, '-O', options.features])
      .concat(['-E', extended.join(','), image, `${mib}M`]),
    { env: { SOURCE_DATE_EPOCH: String(epoch), E2FSPROGS_FAKE_TIME: String(epoch) } },
  );
}

/** Size of an image that holds `used` bytes of files, in MiB. */
export function imageMiB(used: number, options: Pick<Ext4Options, 'journalMiB' | 'slackMiB'>): number {
  return Math.ceil((used / MIB + options.journalMiB + options.slackMiB) * (1 + METADATA_SHARE));
}
