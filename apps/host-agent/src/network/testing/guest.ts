/** Plays a guest: holds the tap of a slot as a VM monitor would, and sends and reads frames. */
import { closeSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openTap } from '../../linux/index.ts';
import type { Slot } from '../network-layer.ts';
import { ethernet, etherType, type Packet, parseFrame, tcp, tcpFlag } from './frames.ts';

/** struct virtio_net_hdr, all zero: nothing is left to do for the receiver. */
const noOffload = Buffer.alloc(10);

export class RawGuest implements Disposable {
  readonly slot: Slot;
  readonly #fd: number;

  constructor(slot: Slot) {
    this.slot = slot;
    this.#fd = openTap(slot.namespace, slot.tap);
  }

  sendFrame(frame: Buffer): void {
    writeSync(this.#fd, Buffer.concat([noOffload, frame]));
  }

  /** Sends an IPv4 packet to the gateway. */
  send(packet: Buffer): void {
    this.sendFrame(ethernet(etherType.ipv4, packet));
  }

  /** Ends the connection of a packet that came, so that nothing of it is sent again. */
  reset({ from = '', fromPort = 0, toPort = 0 }: Packet, seq: number): void {
    this.send(tcp({ to: from, toPort: fromPort, fromPort: toPort, flags: tcpFlag.rst, seq }));
  }

  /** What has arrived by now. */
  read(): Packet[] {
    const packets: Packet[] = [];
    for (;;) {
      const buffer = Buffer.alloc(65_600);
      try {
        const length = readSync(this.#fd, buffer);
        packets.push(parseFrame(buffer.subarray(noOffload.length, length)));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return packets;
        throw error;
      }
    }
  }

  /** The first packet of that kind; those before it are lost. */
  async receive(what: string, isIt: (packet: Packet) => boolean, timeoutMs = 3000): Promise<Packet> {
    const deadline = performance.now() + timeoutMs;
    const others: Packet[] = [];
    while (performance.now() < deadline) {
      for (const packet of this.read()) {
        if (isIt(packet)) return packet;
        others.push(packet);
      }
      await sleep(2);
    }
    throw new Error(`no ${what} on the tap, but ${JSON.stringify(others)}`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
