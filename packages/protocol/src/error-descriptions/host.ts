/** Errors of the machine and the daemons: no room, no answer. */
import type { ErrorDescriptions } from './description.ts';

export const hostErrors = {
  capacity_exhausted: {
    when: 'The host has too little left of `resource`: memory or disk that are not promised to others (both in MiB), or network slots. It is found out before anything is made.',
    after:
      'Nothing was made: no sandbox, no snapshot, no child. A sandbox that was to be paused or copied runs on, and one that was to be resumed is still paused. Retry-After is 5 s.',
  },
  too_many_ready: {
    when: 'With this number more ready guests would be pinned than the host may keep (`PERCH_READY_MAX`). A pin of none counts as one.',
    after: 'The pins are as before.',
  },
  host_disk_full: {
    when: 'The disk of the host filled up while something was written that had found room before, or a guest stands still since its own writes find none.',
    after:
      'All that was written is removed. A sandbox that was to be paused, resumed or copied is as before, a create or a fork has made nothing, a snapshot that was to be overwritten is as before, and nothing of a spooled upload was kept.',
  },
  cleanup_delayed: {
    when: 'What the machine of a sandbox held on the host could not be given back in several tries, at the end of a pause or destroy, or of a create or resume that failed. The reason names it, such as a device that another program has open.',
    after:
      'Nothing is lost, and the machine has ended. The host goes on trying, at least every half minute, and after a restart too. The sandbox is `pausing`, `destroying`, `resuming` or `failed` until it succeeds. A create is destroyed.',
  },
  host_unavailable: {
    when: '`perch-host` does not answer, or not in time, or not as its API says. Also when the first request with the same Idempotency-Key is not done after 30 s.',
    after:
      'The outcome of what was asked is unknown for the moment. A create without an Idempotency-Key is destroyed. Everything else is finished or taken back once the host answers, and then shows in the status; nothing is left half done. Sandboxes run on.',
  },
  database_unavailable: {
    when: 'PostgreSQL cannot be reached. Writes that have to happen were tried for 15 s before.',
    after:
      'Sandboxes run on, and so do commands and transfers, which need no database. The next comparison with the host finishes or takes back all that was under way.',
  },
  shutting_down: {
    when: '`perchd` or `perch-host` is being stopped.',
    after:
      'Nothing new was begun. Sandboxes run on, unless `perch down` stops them. A stream is closed with code 1001.',
  },
  internal: {
    when: 'A daemon met something that it does not know: a fault of Perch. The log has the cause, at `request_id` in `perchd.log`.',
    after:
      'The outcome is unknown to the caller. Journal and database hold what was begun, and the next comparison finishes it or takes it back.',
  },
} satisfies Partial<ErrorDescriptions>;
