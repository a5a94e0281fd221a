export { type GuestIdentity, type GuestReadiness, giveIdentity, waitForAgent } from './identity.ts';
