/** Schemas of `…/files`. */
import { type Static, Type } from 'typebox';
import type { ErrorBody } from './error-body.ts';
import { limits } from './limits.ts';

export const GuestPath = Type.String({
  minLength: 1,
  maxLength: limits.path,
  pattern: '^[^\\u0000]+$',
  description:
    "Absolute, or relative to the user's home. A byte of a name that is not UTF-8 is the character U+10FE00 + the byte.",
});

const time = '\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d(\\.\\d{1,9})?(Z|[+-]\\d\\d:\\d\\d)';

/** The attributes that an upload may give its file. */
export const FileAttributes = {
  mode: Type.Optional(
    Type.String({
      pattern: '^0?[0-7]{1,3}$',
      description:
        'Permission bits in octal, such as 0640. Default: those of the file that is written over, else 0644. ' +
        'A file that is written over gets only those that it had. ' +
        'Setuid, setgid and sticky bits are not given.',
    }),
  ),
  mtime: Type.Optional(
    Type.String({
      pattern: `^${time}$`,
      format: 'date-time',
      description:
        'When the content was last modified, RFC 3339. Default: now. One that the file system has not is ' +
        '`unsupported_by_file_system`: the disk of a sandbox has those from December 1901 to May 2446.',
    }),
  ),
};

export const PathBody = Type.Object({ path: GuestPath }, { $id: 'PathBody', additionalProperties: false });
export type PathBody = Static<typeof PathBody>;

export const MoveBody = Type.Object(
  { source: GuestPath, destination: GuestPath },
  { $id: 'MoveBody', additionalProperties: false },
);
export type MoveBody = Static<typeof MoveBody>;

export const FileEntry = Type.Object(
  {
    name: Type.String(),
    path: Type.String(),
    type: Type.Union([Type.Literal('file'), Type.Literal('directory'), Type.Literal('other')]),
    size: Type.Integer({ description: 'Bytes.' }),
    mode: Type.Integer({ description: "Permission bits; of a link's target." }),
    permissions: Type.String(),
    owner: Type.String(),
    group: Type.String(),
    modified_at: Type.String({ format: 'date-time', description: 'Up to nanoseconds.' }),
    symlink_target: Type.Optional(Type.String()),
  },
  { $id: 'FileEntry' },
);
export type FileEntry = Static<typeof FileEntry>;

export const WatchQuery = Type.Object(
  {
    path: GuestPath,
    recursive: Type.Optional(
      Type.Boolean({ default: false, description: 'Directories below it too, and those that come later.' }),
    ),
    ticket: Type.Optional(Type.String({ maxLength: 128 })),
  },
  { additionalProperties: false },
);

/** `rename` has the old name; the new one is created. */
export interface FileChange {
  type: 'create' | 'write' | 'remove' | 'rename' | 'chmod';
  /** From the watched directory, which itself is `.`. */
  name: string;
}

/** The messages of `files/watch`; the first is `start`, and an `error` the last. */
export type WatchMessage = { type: 'start' } | FileChange | ({ type: 'error' } & ErrorBody);

export const ListFilesQuery = Type.Object(
  {
    path: GuestPath,
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
    cursor: Type.Optional(Type.String({ maxLength: 512, pattern: '^[A-Za-z0-9_-]+$' })),
  },
  { additionalProperties: false },
);

/** By name, in the order of its bytes. */
export const FileList = Type.Object(
  { items: Type.Array(FileEntry), next_cursor: Type.Union([Type.String(), Type.Null()]) },
  { $id: 'FileList' },
);
export type FileList = Static<typeof FileList>;
