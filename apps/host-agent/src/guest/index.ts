export {
  type GuestIdentity,
  type GuestReadiness,
  giveIdentity,
  guestPort,
  waitForAgent,
  warmUp,
} from './identity.ts';
