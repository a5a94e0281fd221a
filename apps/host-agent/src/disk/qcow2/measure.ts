/**
 * The most that layers unpack to. Compressed clusters, and a cluster that many places of the disk name, occupy less than
 * what is written of them elsewhere, so blocks of layers tell nothing: whoever took a monitor over could fill the host.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ToolPlace } from '../backend.ts';
import { asFilename, type BlockNode, runQemuImg } from './qemu-img.ts';

const answerName = 'measured.json';
const maxAnswerBytes = 4096;

const flags = constants.O_CREAT | constants.O_EXCL | constants.O_RDWR;

/** A file in place of an image, when the parts that no layer has are to be passed over. */
export async function makeHole({ dir, sizeBytes }: ToolPlace, name: string): Promise<void> {
  await using hole = await open(join(dir, name), flags, 0o444);
  await hole.chmod(0o444);
  await hole.truncate(sizeBytes);
}

/**
 * The chain must be linked.
 * @returns bytes of a qcow2 file of all that is no zeros in the chain, in clusters of 64 KiB, with tables for the whole disk
 * @throws as `runQemuImg`; Error for an answer that is none
 */
export async function measure(tool: ToolPlace, chain: BlockNode): Promise<number> {
  await using answer = await open(join(tool.dir, answerName), flags, 0o600);
  const command = ['qemu-img', 'measure', '--output=json', '-O', 'qcow2', asFilename(chain)];
  await runQemuImg(tool, maxAnswerBytes, 'measured', command, answer.fd);
  const said = Buffer.alloc(maxAnswerBytes);
  const { bytesRead } = await answer.read(said, 0, said.length, 0);
  const required = /"required": (\d{1,15})\b/.exec(said.toString('latin1', 0, bytesRead))?.[1];
  if (required === undefined) throw new Error('qemu-img has not told how much the disk unpacks to');
  return Number(required);
}
