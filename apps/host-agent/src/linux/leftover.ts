/** Something on this machine that has a name of ours, and that nobody needs. */
export interface Leftover {
  /** Its kind and name. */
  what: string;
  /** Ends or removes it; no error when it is gone by then. */
  remove: () => Promise<void>;
}
