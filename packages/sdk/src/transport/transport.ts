/** How requests go out, whatever the platform. */

/** Anything but a string and bytes is sent as it comes; bytes must stay as they are until the answer is there. */
export type Body = string | Uint8Array<ArrayBuffer> | Blob | AsyncIterable<Uint8Array>;

export interface Outgoing {
  method: string;
  headers: Record<string, string>;
  body?: Body | undefined;
  /** Whether the answer may say in a trailer why it ends before its end. Only where trailers can be read. */
  trailers?: boolean | undefined;
  /** Ends the request, and its answer until that is read to its end. */
  signal?: AbortSignal | undefined;
}

/** An answer whose head has come. */
export interface Answer {
  readonly ok: boolean;
  readonly status: number;
  readonly url: string;
  header(name: string): string | undefined;
  /** Once the rest has come. */
  trailer(name: string): string | undefined;
  /** The rest of it. */
  text(): Promise<string>;
  /** The rest of it as it comes. */
  reader(): BodyReader;
  /** Nobody reads it. */
  drop(): Promise<void>;
}

/** A part of what a ReadableStream calls its reader. */
export interface BodyReader {
  read(): Promise<{ done: false; value: Uint8Array } | { done: true; value?: unknown }>;
  cancel(reason?: unknown): Promise<void>;
}

/** Resolves when the head of the answer has come. It sets no limit of time, and follows no redirect. */
export type Transport = (target: string, request: Outgoing) => Promise<Answer>;
