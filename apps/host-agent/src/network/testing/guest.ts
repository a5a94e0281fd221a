/** Plays a guest: holds the tap of a slot as a VM monitor would, and sends and reads frames. */
import { closeSync, readSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode } from '@perch/node-kit';
import { ipJson, openTap } from '../../linux/index.ts';
import type { Slot } from '../network-layer.ts';
import { echoRequest, ethernet, etherType, type Packet, parseFrame, tcp, tcpFlag } from './frames.ts';

/** struct virtio_net_hdr, all zero: nothing is left to do for the receiver. */
const noOffload = Buffer.alloc(10);

export class RawGuest implements Disposable {
  readonly slot: Slot;
  readonly #fd: number;
  #lastEchoId = 1000;

  private constructor(slot: Slot) {
    this.slot = slot;
    this.#fd = openTap(slot.namespace, slot.tap);
  }

  /** Resolves when the kernel has noticed the carrier; what it sends before that is lost. */
  static async open(slot: Slot): Promise<RawGuest> {
    const guest = new RawGuest(slot);
    for (;;) {
      const [link] = await ipJson<{ operstate: string }>(['link', 'show', slot.tap], slot.namespace);
      if (link?.operstate === 'UP') return guest;
    }
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

  /** All that has arrived by now. */
  read(): Packet[] {
    const packets: Packet[] = [];
    for (;;) {
      const buffer = Buffer.alloc(65_600);
      try {
        const length = readSync(this.#fd, buffer);
        packets.push(parseFrame(buffer.subarray(noOffload.length, length)));
      } catch (error) {
        if (hasCode(error, 'EAGAIN')) return packets;
        throw error;
      }
    }
  }

  /** The first packet of that kind. Others that came before it, or with it, are put into `others`. */
  async receive(
    what: string,
    isIt: (packet: Packet) => boolean,
    others: Packet[] = [],
    timeoutMs = 3000,
  ): Promise<Packet> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const packets = this.read();
      const wanted = packets.find(isIt);
      others.push(...packets.filter((packet) => packet !== wanted));
      if (wanted) return wanted;
      await sleep(2);
    }
    throw new Error(`no ${what} on the tap, but ${JSON.stringify(others)}`);
  }

  /**
   * Sends a ping to an address that answers. Frames of one tap are handled in order: when it has been
   * answered, all frames before it have been judged.
   * @returns what else arrived meanwhile
   */
  async fence(to: string): Promise<Packet[]> {
    const id = ++this.#lastEchoId;
    const others: Packet[] = [];
    this.send(echoRequest(to, id));
    await this.receive('answer to the fence', ({ echoId }) => echoId === id, others);
    return others;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
