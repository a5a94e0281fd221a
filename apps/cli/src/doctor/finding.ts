export interface Finding {
  /** The thing that was looked at. */
  name: string;
  status: 'ok' | 'warning' | 'problem';
  detail: string;
  /** The remedy; absent when it is well. */
  remedy?: string;
}

export function ok(name: string, detail: string): Finding {
  return { name, status: 'ok', detail };
}

/** Perch runs with it, less well. */
export function warning(name: string, detail: string, remedy: string): Finding {
  return { name, status: 'warning', detail, remedy };
}

/** Perch does not run with it. */
export function problem(name: string, detail: string, remedy: string): Finding {
  return { name, status: 'problem', detail, remedy };
}
