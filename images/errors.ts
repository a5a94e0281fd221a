/** A build that could not be done. The message says what failed; `remedy` says what to do about it. */
export class BuildError extends Error {
  readonly code = 'build_failed';
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BuildError';
    this.remedy = remedy;
  }
}
