import type { GuestClient } from '@perch/guest-client';

/** The part of a guest agent's client that perchd uses. */
export type Guest = Pick<
  GuestClient,
  | 'start'
  | 'sendStdin'
  | 'closeStdin'
  | 'resize'
  | 'signal'
  | 'commands'
  | 'command'
  | 'attach'
  | 'readFile'
  | 'readArchive'
  | 'writeFile'
  | 'stat'
  | 'listPage'
  | 'watch'
  | 'makeDir'
  | 'move'
  | 'remove'
  | 'close'
>;
