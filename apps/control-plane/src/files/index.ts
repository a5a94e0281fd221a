export { inBatches } from './batches.ts';
export { Spool } from './spool.ts';
export { receiveUpload, type UploadPart } from './upload.ts';
export { WatchSession } from './watch.ts';
