/**
 * The content of a base image, and whether a file still has it. To read a whole image takes seconds, so the file has a
 * note of what it was found to hold, and of size and time of change then. Whoever writes to it changes the time.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { readFileNote, writeFileNote } from '../linux/index.ts';
import { digestOf } from './digest.ts';

const noteName = 'content';
const reading = constants.O_RDONLY | constants.O_NOFOLLOW;

/** SHA-256 of all bytes, holes as zeros, which are not read: what names an image. */
export function imageIdOf(path: string): Promise<string> {
  return digestOf({ path, what: 'bytes' });
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
function layoutIdOf(path: string): Promise<string> {
  return digestOf({ path, what: 'layout' });
}
