/**
 * Framing of the Connect protocol's streams: a flag byte, a 32-bit big-endian length, and that many bytes.
 * @see https://connectrpc.com/docs/protocol#streaming-rpcs
 */
const headLength = 5;
const endFlag = 0x02;
/** Of the agent's own: the payload is output of a process, as the bytes that it is. */
const outputFlags: ReadonlyMap<number, 'stdout' | 'stderr'> = new Map([
  [0x10, 'stdout'],
  [0x20, 'stderr'],
  // Of a terminal, which has no other.
  [0x30, 'stdout'],
]);

export interface Envelope {
  /** The last of its stream. */
  end: boolean;
  /** The stream that the payload is output of; undefined for a message. */
  output: 'stdout' | 'stderr' | undefined;
  payload: Buffer;
}

/** The peer's bytes are no stream of envelopes. */
export class EnvelopeError extends Error {
  override readonly name = 'EnvelopeError';
}

/** Reads envelopes from chunks that end anywhere, and keeps none of these: payloads are copies. */
export class EnvelopeDecoder {
  readonly #limit: number;
  readonly #allocate: (length: number) => Buffer;
  readonly #head = Buffer.alloc(headLength);
  #headFilled = 0;
  /** Of an envelope whose head is there. */
  #payload: Buffer | undefined;
  #payloadFilled = 0;
  #ended = false;

  /**
   * @param limit longest payload, `bytes`
   * @param allocate memory for a payload
   */
  constructor(limit: number, allocate: (length: number) => Buffer = Buffer.allocUnsafe) {
    this.#limit = limit;
    this.#allocate = allocate;
  }

  /** The envelopes that this chunk completes. */
  *push(chunk: Buffer): Generator<Envelope, void, void> {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#ended) throw new EnvelopeError('the stream goes on after its end');
      if (!this.#payload) {
        const copied = chunk.copy(this.#head, this.#headFilled, offset);
        this.#headFilled += copied;
        offset += copied;
        this.#payload = this.#begin();
        if (!this.#payload) continue;
      }
      const copied = chunk.copy(this.#payload, this.#payloadFilled, offset);
      this.#payloadFilled += copied;
      offset += copied;
      if (this.#payloadFilled < this.#payload.length) continue;
      const flags = this.#head[0];
      const envelope = {
        end: flags === endFlag,
        output: outputFlags.get(flags ?? 0),
        payload: this.#payload,
      };
      this.#ended = envelope.end;
      this.#payload = undefined;
      this.#headFilled = 0;
      this.#payloadFilled = 0;
      yield envelope;
    }
  }

  /** @throws {EnvelopeError} when the stream stopped before its end */
  finish(): void {
    if (!this.#ended) throw new EnvelopeError('the stream has no end');
  }

  /** Room for the payload, once the head is whole. */
  #begin(): Buffer | undefined {
    const flags = this.#head[0] ?? 0;
    if (flags !== 0 && flags !== endFlag && !outputFlags.has(flags)) {
      throw new EnvelopeError(`an envelope has flags ${flags}`);
    }
    if (this.#headFilled < headLength) return undefined;
    const length = this.#head.readUInt32BE(1);
    if (length > this.#limit) throw new EnvelopeError(`an envelope is longer than ${this.#limit} bytes`);
    return this.#allocate(length);
  }
}

/** A message in its envelope. */
export function encodeEnvelope(payload: Buffer): Buffer {
  const envelope = Buffer.allocUnsafe(headLength + payload.length);
  envelope[0] = 0;
  envelope.writeUInt32BE(payload.length, 1);
  payload.copy(envelope, headLength);
  return envelope;
}
