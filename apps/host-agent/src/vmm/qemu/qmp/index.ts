/** The QEMU Machine Protocol. */
export { QmpClient, QmpError } from './client.ts';
export { connectQmp, type QmpAddress } from './connect.ts';
export { isObject, type QmpEvent } from './messages.ts';
