/** Errors of snapshots. */
import type { ErrorDescriptions } from './description.ts';

export const snapshotErrors = {
  snapshot_not_found: { when: 'There is no snapshot of this name.', after: 'Nothing was done.' },
  snapshot_exists: {
    when: 'A snapshot is to be made or imported under a name that is taken, without `overwrite`, or under the name of a base image.',
    after:
      'The snapshot or image of that name is as before, and there is no new snapshot. The sandbox is as before.',
  },
  snapshot_in_use: {
    when: 'A base image is to be deleted. Or a snapshot was replaced or deleted by somebody while it was flattened or converted; `by` says which.',
    after: 'The snapshot or image that has the name now is as it was.',
  },
  snapshot_failed: {
    when: 'A step of making a snapshot of a running sandbox failed before it was committed.',
    after:
      'The sandbox runs on, and there is no new snapshot. A snapshot that was to be overwritten is as before.',
  },
  snapshot_damaged: {
    when: 'A file of a checkpoint or of a snapshot is missing, cut off, or not what its manifest says. `reason` names it, `id` is the sandbox or the snapshot.',
    after:
      'Nothing was made of it. A paused sandbox is still paused. The damaged files stay where they are, so that they can be looked at.',
  },
  conversion_failed: {
    when: 'The layers of the disk of a snapshot are to be written in another format, and cannot be read, or a tool for it is missing on the host.',
    after: 'The snapshot is as before.',
  },
  import_refused: {
    when: 'The directory of an import is not there, holds something that no snapshot may hold, lacks something, is damaged, or what was said about it contradicts it.',
    after: 'There is no new snapshot, and nothing of the copy was kept. The directory was only read.',
  },
} satisfies Partial<ErrorDescriptions>;
