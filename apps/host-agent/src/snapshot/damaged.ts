/** The two ways in which a snapshot cannot be resumed. */
import { PerchError } from '@perch/protocol';

/** A file of a snapshot is missing, torn, or not what a snapshot holds there. No part of it may be used. */
export class SnapshotDamaged extends Error {
  override readonly name = 'SnapshotDamaged';
  /** Name of the file within the snapshot directory. */
  readonly file: string;
  /** The fault, as the rest of a sentence. */
  readonly reason: string;

  constructor(file: string, reason: string, options?: { cause?: unknown }) {
    super(`${file} ${reason}`, options);
    this.file = file;
    this.reason = reason;
  }

  /** @param id of the sandbox or name that the snapshot belongs to */
  toPerchError(id: string): PerchError<'snapshot_damaged'> {
    return new PerchError(
      'snapshot_damaged',
      `The snapshot of ${id} is damaged: ${this.message}.`,
      { id, reason: this.message },
      { cause: this },
    );
  }
}

/** The snapshot is whole, and was taken on a machine or by a VM monitor that differs from this one. */
export class SnapshotIncompatible extends Error {
  override readonly name = 'SnapshotIncompatible';
}
