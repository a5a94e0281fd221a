export { Spool } from './spool.ts';
export { receiveUpload, type UploadPart } from './upload.ts';
