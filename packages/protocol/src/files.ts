/** Schemas of `…/files`. */
import { type Static, Type } from 'typebox';
import { limits } from './sandbox.ts';

export const GuestPath = Type.String({
  minLength: 1,
  maxLength: limits.path,
  pattern: '^[^\\u0000]+$',
  description: "Absolute, or relative to the user's home.",
});

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
    mode: Type.Integer({ description: 'Permission bits.' }),
    permissions: Type.String(),
    owner: Type.String(),
    group: Type.String(),
    modified_at: Type.String(),
    symlink_target: Type.Optional(Type.String()),
  },
  { $id: 'FileEntry' },
);
export type FileEntry = Static<typeof FileEntry>;

export const FileList = Type.Object({ items: Type.Array(FileEntry) }, { $id: 'FileList' });
export type FileList = Static<typeof FileList>;
