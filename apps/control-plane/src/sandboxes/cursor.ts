import { isSandboxId, PerchError } from '@perch/protocol';

/** Where a page ended: lists run by (time, id), of which the time is that of the creation or of the start. */
export interface Position {
  createdAt: Date;
  id: string;
}

export function encodeCursor({ createdAt, id }: Position): string {
  return Buffer.from(`${createdAt.getTime()}.${id}`).toString('base64url');
}

export function decodeCursor(cursor: string): Position {
  const text = Buffer.from(cursor, 'base64url').toString('latin1');
  const match = /^(\d{1,15})\.(\w+)$/.exec(text);
  const id = match?.[2];
  if (!id || !isSandboxId(id)) {
    throw new PerchError('validation_failed', 'cursor must be the next_cursor of an earlier answer', {
      problems: [{ where: 'cursor', message: 'must be the next_cursor of an earlier answer' }],
    });
  }
  return { createdAt: new Date(Number(match?.[1])), id };
}
