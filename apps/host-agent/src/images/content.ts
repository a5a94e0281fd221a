/**
 * The content of a base image, and whether a file still has it. To read a whole image takes seconds, so the file has a
 * note of what it was found to hold, and of size and time of change then. Whoever writes to it changes the time.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { dataRuns, readFileNote, writeFileNote } from '../linux/index.ts';

const noteName = 'content';
const reading = constants.O_RDONLY | constants.O_NOFOLLOW;
const pieceBytes = 2 ** 20;
const zeros = Buffer.alloc(pieceBytes);

/** SHA-256 of all bytes, holes as zeros, which are not read: what names an image. */
export async function imageIdOf(path: string): Promise<string> {
  await using file = await open(path, reading);
  const { size } = await file.stat();
  const hash = createHash('sha256');
  let at = 0;
  for (const { offset, length } of dataRuns(file.fd, 0, size)) {
    await hashHole(hash, offset - at);
    await hashData(hash, file, offset, length);
    at = offset + length;
  }
  await hashHole(hash, size - at);
  return hash.digest('hex');
}

/** Whether an image is the one of this id. It is read when that is not noted, or when it was changed after the note. */
export async function hasContent(path: string, id: string): Promise<boolean> {
  await using file = await open(path, reading);
  // From before it is read: a change meanwhile must not be noted as read.
  const note = await noteOf(file, id);
  if (readFileNote(file.fd, noteName) === note) return true;
  if ((await imageIdOf(path)) !== id && (await layoutIdOf(path)) !== id) return false;
  writeFileNote(file.fd, noteName, note);
  return true;
}

/** Notes what an image that was just taken over was built to be. An older note stays: it tells of changes since. */
export async function noteContent(path: string, id: string): Promise<void> {
  await using file = await open(path, reading);
  if (readFileNote(file.fd, noteName) !== undefined) return;
  writeFileNote(file.fd, noteName, await noteOf(file, id));
}

/** In whole seconds: tools that copy a file with its notes may keep no parts of one. */
async function noteOf(file: FileHandle, id: string): Promise<string> {
  const { size, mtimeMs } = await file.stat();
  return `${id} ${size} ${Math.floor(mtimeMs / 1000)}`;
}

/**
 * How flattened disks were named by Perch 0.1: SHA-256 of the size, and of the data and where it lies. Another copy of
 * the same bytes may have another one, so nothing gets such a name any more.
 */
async function layoutIdOf(path: string): Promise<string> {
  await using file = await open(path, reading);
  const { size } = await file.stat();
  const hash = createHash('sha256').update(`${size}`);
  for (const { offset, length } of dataRuns(file.fd, 0, size)) {
    hash.update(`\n${offset} ${length}\n`);
    await hashData(hash, file, offset, length);
  }
  return hash.digest('hex');
}

async function hashData(hash: Hash, file: FileHandle, offset: number, length: number): Promise<void> {
  const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, length));
  for (let done = 0; done < length; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - done), offset + done);
    if (bytesRead === 0) throw new Error(`An image that is read ends at ${offset + done}`);
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
}

async function hashHole(hash: Hash, length: number): Promise<void> {
  for (let done = 0; done < length; done += pieceBytes) {
    hash.update(zeros.subarray(0, Math.min(pieceBytes, length - done)));
    // A hole of gigabytes takes seconds, in which others want to be served.
    await setImmediate();
  }
}
