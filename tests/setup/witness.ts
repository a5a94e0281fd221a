/** Data in a sandbox that tell whether it is as it was: in a process, in a file in memory, on the disk. */
import { expect } from 'vitest';
import type { Perch } from '../../packages/sdk/src/index.ts';
import { slowness } from './slowness.ts';

/** Keeps random bytes in a variable, and writes their digest when it is asked by a signal. */
const holder = `
v=$(head -c 100000 /dev/urandom | base64 -w0)
trap 'printf %s "$v" | cksum > /dev/shm/told.new; mv /dev/shm/told.new /dev/shm/told' USR1
sleep infinity &
echo $$ > /dev/shm/holder
while :; do wait; done
`;

const start = `
set -e
setsid bash -c "$HOLDER" >/dev/null 2>&1 </dev/null &
until [ -s /dev/shm/holder ]; do sleep 0.02; done
`;

/** Past the cache: what is read of the file in /var comes from the disk. */
const tell = `
rm -f /dev/shm/told
kill -USR1 $(</dev/shm/holder)
echo "$(</proc/sys/kernel/random/boot_id)"
cksum < /dev/shm/kept-$N
dd if=/var/kept-$N iflag=direct bs=64K status=none | cksum
until [ -e /dev/shm/told ]; do sleep 0.02; done
cat /dev/shm/told
`;

const write = `
set -e
head -c 262144 /dev/urandom > /dev/shm/kept-$N
dd if=/dev/urandom of=/var/kept-$N bs=64K count=4 conv=fsync status=none
${tell}
for file in /dev/shm/kept-* /var/kept-*; do
  case $file in *-$N|*-$BEFORE) ;; *) rm $file ;; esac
done
`;

export class Witness {
  readonly id: string;
  readonly #perch: Perch;
  #tries = 0;
  #written = 0;
  #told = '';

  private constructor(perch: Perch, id: string) {
    this.#perch = perch;
    this.id = id;
  }

  static async place(perch: Perch, id: string): Promise<Witness> {
    const witness = new Witness(perch, id);
    await witness.#run(start, { HOLDER: holder });
    await witness.change();
    return witness;
  }

  /** Replaces the data in files. When it fails, those before count. */
  async change(): Promise<void> {
    const next = ++this.#tries;
    this.#told = await this.#run(write, { N: `${next}`, BEFORE: `${this.#written}` });
    this.#written = next;
  }

  /** All is as it was when `change` resolved the last time. */
  async expectWhole(): Promise<void> {
    const told = await this.#run(tell, { N: `${this.#written}` });
    expect(told, `data of sandbox ${this.id}`).toBe(this.#told);
  }

  /** The same data in a copy of the sandbox, whatever becomes of them here. */
  in(copy: string): Witness {
    const witness = new Witness(this.#perch, copy);
    witness.#tries = this.#tries;
    witness.#written = this.#written;
    witness.#told = this.#told;
    return witness;
  }

  async #run(script: string, env: Record<string, string> = {}): Promise<string> {
    const { id } = this;
    const { stdout, stderr, exit_code } = await this.#perch.sandboxes.exec(id, {
      cmd: 'bash',
      args: ['-c', script],
      user: 'root',
      env,
      timeout_sec: 30 * slowness,
    });
    if (exit_code !== 0) throw new Error(`in sandbox ${id}: exit code ${exit_code}: ${stderr}`);
    return stdout;
  }
}
