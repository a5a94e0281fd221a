/** The lab host: a machine with device-mapper, KVM, cgroup v2 and systemd, on one that has none of them. */
export { ensureLab } from './parts.ts';
