/** SHA-256 of files of gigabytes, which takes seconds of a processor: beside the thread that serves everybody. */
import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

export interface Digested {
  path: string;
  /** `bytes`: all of them, holes as zeros, which are not read. `layout`: the size, and the data and where it lies. */
  what: 'bytes' | 'layout';
}

/** Beside this file, or beside the bundle that has it. */
const thread = new URL(`digest-thread${extname(import.meta.url)}`, import.meta.url);

/** @throws as open(2) and read(2), with their codes */
export async function digestOf(file: Digested): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const worker = new Worker(thread, { workerData: file });
  worker.once('message', resolve);
  worker.once('error', reject);
  worker.once('exit', (code) => reject(new Error(`The thread that reads ${file.path} ended with ${code}`)));
  return promise;
}
