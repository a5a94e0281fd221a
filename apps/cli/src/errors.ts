/** A mistake that the user can mend: what failed, and how to solve it. */
export class CliError extends Error {
  override readonly name: string = 'CliError';
  readonly remedy: string;

  constructor(message: string, remedy: string, options?: { cause?: unknown }) {
    super(message, options);
    this.remedy = remedy;
  }
}
