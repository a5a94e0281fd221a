/** The TypeScript client of Perch. */
export { type ClientConfig, readClientConfig } from './config.ts';
export { ExecStream, type StreamOutput, type StreamStart } from './exec-stream.ts';
export { type FileData, Files, type TransferOptions } from './files.ts';
export { Perch } from './perch.ts';
export { type CreateOptions, type ListOptions, Sandboxes } from './sandboxes.ts';
export { ConnectionError, type TransportOptions } from './transport.ts';
