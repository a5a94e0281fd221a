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

/** Reads envelopes from chunks that end anywhere. Holds at most one incomplete envelope. */
export class EnvelopeDecoder {
  readonly #limit: number;
  #parts: Buffer[] = [];
  #buffered = 0;
  /** Bytes needed before anything more can be said: of flags, of a head, or of a head and its payload. */
  #wanted = 1;
  #ended = false;

  /** @param limit longest payload, `bytes` */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The envelopes that this chunk completes. */
  *push(chunk: Buffer): Generator<Envelope, void, void> {
    if (chunk.length === 0) return;
    if (this.#ended) throw new EnvelopeError('the stream goes on after its end');
    this.#parts.push(chunk);
    this.#buffered += chunk.length;
    if (this.#buffered < this.#wanted) return;
    let bytes = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#buffered);
    this.#parts = [];
    for (;;) {
      this.#wanted = this.#length(bytes);
      if (bytes.length < this.#wanted) break;
      const payload = bytes.subarray(headLength, this.#wanted);
      this.#ended = bytes[0] === endFlag;
      const output = outputFlags.get(bytes[0] ?? 0);
      bytes = bytes.subarray(this.#wanted);
      if (this.#ended && bytes.length > 0) throw new EnvelopeError('the stream goes on after its end');
      yield { end: this.#ended, output, payload };
    }
    if (bytes.length > 0) this.#parts = [bytes];
    this.#buffered = bytes.length;
  }

  /** @throws {EnvelopeError} when the stream stopped before its end */
  finish(): void {
    if (!this.#ended) throw new EnvelopeError('the stream has no end');
  }

  /** Of the envelope that starts here, with its head; of a head alone when that is incomplete. */
  #length(bytes: Buffer): number {
    const flags = bytes[0];
    if (flags === undefined) return 1;
    if (flags !== 0 && flags !== endFlag && !outputFlags.has(flags))
      throw new EnvelopeError(`an envelope has flags ${flags}`);
    if (bytes.length < headLength) return headLength;
    const length = bytes.readUInt32BE(1);
    if (length > this.#limit) throw new EnvelopeError(`an envelope is longer than ${this.#limit} bytes`);
    return headLength + length;
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
