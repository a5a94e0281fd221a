export { type GuestIdentity, type GuestReadiness, giveIdentity, waitForAgent, warmUp } from './identity.ts';
