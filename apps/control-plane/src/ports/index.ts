/** Servers in a sandbox: which there are, and a way to each that carries any bytes. */
export { listPorts } from './list.ts';
export { PortSession } from './session.ts';
