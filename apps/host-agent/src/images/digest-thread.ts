/** The thread that `digestOf` starts: reads and hashes one file, and tells its SHA-256. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { dataRuns } from '../linux/index.ts';
import type { Digested } from './digest.ts';

const pieceBytes = 2 ** 20;
const piece = Buffer.alloc(pieceBytes);
const zeros = Buffer.alloc(pieceBytes);

const { path, what } = workerData as Digested;
const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
try {
  const hash = createHash('sha256');
  if (what === 'bytes') hashBytes(hash);
  else hashLayout(hash);
  parentPort?.postMessage(hash.digest('hex'));
} finally {
  closeSync(fd);
}

function hashBytes(hash: Hash): void {
  const { size } = fstatSync(fd);
  let at = 0;
  for (const { offset, length } of dataRuns(fd, 0, size)) {
    hashHole(hash, offset - at);
    hashData(hash, offset, length);
    at = offset + length;
  }
  hashHole(hash, size - at);
}

function hashLayout(hash: Hash): void {
  const { size } = fstatSync(fd);
  hash.update(`${size}`);
  for (const { offset, length } of dataRuns(fd, 0, size)) {
    hash.update(`\n${offset} ${length}\n`);
    hashData(hash, offset, length);
  }
}

function hashData(hash: Hash, offset: number, length: number): void {
  for (let done = 0; done < length; ) {
    const bytesRead = readSync(fd, piece, 0, Math.min(pieceBytes, length - done), offset + done);
    if (bytesRead === 0) throw new Error(`An image that is read ends at ${offset + done}`);
    hash.update(piece.subarray(0, bytesRead));
    done += bytesRead;
  }
}

function hashHole(hash: Hash, length: number): void {
  for (let done = 0; done < length; done += pieceBytes) {
    hash.update(zeros.subarray(0, Math.min(pieceBytes, length - done)));
  }
}
