/** Errors of sandboxes: their state, their start, their pause and resume. */
import type { ErrorDescriptions } from './description.ts';

export const sandboxErrors = {
  sandbox_not_found: {
    when: 'No sandbox has this id, or it was destroyed more than a week ago.',
    after: 'Nothing was done.',
  },
  sandbox_not_running: {
    when: 'The call needs a running sandbox, or for a copy a running or paused one, and `status` is another. Also when a pause or a destroy came while a command or a transfer was under way.',
    after:
      'The sandbox is in `status`, or further on by now. A command that was not detached has ended, and nothing of an upload was kept.',
  },
  sandbox_failed: {
    when: 'The virtual machine has ended by itself, its guest did not start, or a step failed and could not be undone. `reason` says which.',
    after:
      'The sandbox is `failed` for good. It holds no process, memory, VM directory or slot. Reason, console and checkpoints stay for an hour, then it is destroyed. A sandbox whose create is answered like this is destroyed at once.',
  },
  sandbox_exists: {
    when: '`perch-host` was asked to create a sandbox of an id that it has with another machine or template. Ids are made by `perchd`, so a client of the API does not see it.',
    after: 'The sandbox that has the id is as before.',
  },
  sandbox_not_paused: {
    when: 'A sandbox is to be resumed that is not paused, or that is being resumed from another checkpoint at the moment.',
    after: 'The sandbox is as before, in `status`. A resume under way goes on.',
  },
  pause_failed: {
    when: 'A step of a pause failed before the snapshot was committed.',
    after:
      'The sandbox runs on, with its commands; nothing of the snapshot is left. Its time is at least another minute. Connections to it stay open, and so do transfers.',
  },
  resume_failed: {
    when: 'A step of a resume failed; or this host cannot go on from the state, since monitor or processor are others than those that wrote it; or the files of the state have to be merged, or the layers of its disk converted, first, and cannot be.',
    after:
      'The sandbox is still paused and its checkpoints are whole. All that the resume had made is removed. A snapshot or a fork that is answered like this has made nothing.',
  },
  checkpoint_not_found: {
    when: 'A resume or a fork names a checkpoint that was never there or is older than those that are kept (`PERCH_HISTORY`).',
    after: 'The sandbox is as before. There is no child.',
  },
  fork_failed: {
    when: 'The copy that children start from could not be made.',
    after: 'The source runs on, or is still paused. There is no child, and no row of one.',
  },
  template_not_found: {
    when: '`template` of a create names neither a base image nor a snapshot.',
    after: 'There is no sandbox.',
  },
  image_damaged: {
    when: 'The base image that `template` of a create names was changed after Perch took it over. `reason` names the file.',
    after:
      'There is no sandbox. Those that run go on with the changed image; a paused one that lies on it is refused as `snapshot_damaged`.',
  },
  disk_too_small: {
    when: '`disk_mb` of a create is smaller than the base image.',
    after: 'There is no sandbox.',
  },
  shape_mismatch: {
    when: 'A create from a snapshot asks for another machine than the one that the snapshot is of.',
    after: 'There is no sandbox. `details` has the machine of the snapshot.',
  },
} satisfies Partial<ErrorDescriptions>;
