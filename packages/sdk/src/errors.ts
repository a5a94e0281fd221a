/** Errors that are not the server's own words; those are PerchError. */

/** Nothing answers, or the connection broke. The outcome of the request is unknown unless `sent` is false. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';
  readonly url: string;
  readonly remedy: string;
  /** False: no connection was made, so nothing happened. */
  readonly sent: boolean;

  constructor(url: string, problem: { message: string; remedy: string; sent: boolean }, cause?: unknown) {
    super(problem.message, { cause });
    this.url = url;
    this.remedy = problem.remedy;
    this.sent = problem.sent;
  }
}

/** The answer is not Perch's, or not of a version that this client understands. */
export class UnexpectedAnswerError extends Error {
  override readonly name = 'UnexpectedAnswerError';
  readonly remedy =
    'Check that the URL is that of Perch, and that nothing stands between that changes answers.';
  readonly url: string;
  readonly status: number;

  constructor(url: string, status: number, problem: string, cause?: unknown) {
    super(`${url} answered what Perch does not answer: ${problem}.`, { cause });
    this.url = url;
    this.status = status;
  }
}

/** A setting that the user has to correct. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: { cause?: unknown }) {
    super(message, options);
    this.remedy = remedy;
  }
}

/** The code of an error of ours: nothing accepted a connection. */
export const connectTimeout = 'CONNECT_TIMEOUT';

const neverSent = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  connectTimeout,
]);

/** The error of a request that got no answer. */
export function connectionError(url: string, error: unknown): ConnectionError {
  const code = codeOf(error);
  if (code !== undefined && neverSent.has(code)) {
    const message = `Perch does not answer at ${url} (${code}).`;
    return new ConnectionError(url, { message, remedy: 'Start it with `perch up`.', sent: false }, error);
  }
  const message = `The connection to Perch at ${url} broke off${code ? ` (${code})` : ''}.`;
  return new ConnectionError(
    url,
    { message, remedy: 'Check that Perch runs (`perch doctor`), then try again.', sent: true },
    error,
  );
}

/** fetch hides the code of the socket's error in causes, and Node those of several addresses in a list. */
function codeOf(error: unknown): string | undefined {
  if (error instanceof Error && error.name === 'TimeoutError') return 'TIMEOUT';
  for (let at = error as { code?: unknown; cause?: unknown; errors?: unknown[] } | undefined; at; ) {
    if (typeof at.code === 'string') return at.code;
    at = (at.cause ?? at.errors?.[0]) as typeof at;
  }
  return undefined;
}
