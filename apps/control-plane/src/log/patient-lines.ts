import type { DestinationStream } from 'pino';

/** The end of the line of an answered request: pino puts the message last. */
const ofRequest = '"msg":"request"}\n';
const longestMs = 100;
const mostCharacters = 16 * 1024;

/**
 * Lines of requests wait for each other: written one by one they are a good part of what a short request costs,
 * and each wakes whoever reads the log. Any other line goes out at once, with all that wait, so that the order stays.
 */
export class PatientLines implements DestinationStream {
  readonly #out: DestinationStream;
  #waiting = '';
  #timer: NodeJS.Timeout | undefined;

  constructor(out: DestinationStream) {
    this.#out = out;
  }

  write(line: string): void {
    this.#waiting += line;
    if (!line.endsWith(ofRequest) || this.#waiting.length > mostCharacters) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), longestMs).unref();
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lines = this.#waiting;
    this.#waiting = '';
    if (lines !== '') this.#out.write(lines);
  }
}
