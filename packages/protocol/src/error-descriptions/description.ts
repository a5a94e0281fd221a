import type { ErrorCode } from '../errors.ts';

/** The part of an error's documentation that no answer carries. Whole sentences, Markdown. */
export interface ErrorDescription {
  /** The situations in which the error comes. */
  when: string;
  /** The state of the world afterwards. */
  after: string;
}

export type ErrorDescriptions<C extends ErrorCode = ErrorCode> = Record<C, ErrorDescription>;
