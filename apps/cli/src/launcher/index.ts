/** Starts and stops Perch on this machine. */
export { type CertifyResult, certify } from './certify.ts';
export { type DownOptions, down } from './down.ts';
export { hostSocket } from './host-socket.ts';
export { type InstallEvent, install, installable, uninstall } from './install.ts';
export { type Leak, leaks } from './leaks.ts';
export { type UpEvent, up } from './up.ts';
