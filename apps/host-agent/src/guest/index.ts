export {
  type GuestIdentity,
  type GuestReadiness,
  giveIdentity,
  guestPort,
  holdDisk,
  letGoOfDisk,
  waitForAgent,
  warmUp,
  writeOut,
} from './identity.ts';
