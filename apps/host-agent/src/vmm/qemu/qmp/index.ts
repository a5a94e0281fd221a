/** The QEMU Machine Protocol. */
export { QmpClient } from './client.ts';
export { connectQmp } from './connect.ts';
export { isObject, type QmpEvent } from './messages.ts';
