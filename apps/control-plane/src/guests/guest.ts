import type { GuestClient } from '@perch/guest-client';

/** What perchd uses of the client of a guest agent. */
export type Guest = Pick<
  GuestClient,
  | 'start'
  | 'sendStdin'
  | 'closeStdin'
  | 'signal'
  | 'commands'
  | 'command'
  | 'attach'
  | 'readFile'
  | 'writeFile'
  | 'stat'
  | 'listDir'
  | 'makeDir'
  | 'move'
  | 'remove'
  | 'close'
>;
