/** What a pager is told at its start. Pure. Source: crates/pager/src/config.rs. */
import type { BuildId } from '../../snapshot/index.ts';

/** Descriptors. */
export interface PagerFiles {
  header: number;
  memfiles: ReadonlyMap<BuildId, number>;
  /** Listens. */
  socket: number;
  metrics: number;
  /** An empty file for the working set of this guest. */
  record?: number | undefined;
  /** The working set of an earlier one, and how much of the memory is put in place by it. */
  prefetch?: { from: number; limitMib: number } | undefined;
}

/** Descriptors that a program finds as 3, 4, …, and the text that tells it which is which. */
export function configurationOf(files: PagerFiles): { descriptors: number[]; text: string } {
  const descriptors: number[] = [];
  const placed = (descriptor: number) => descriptors.push(descriptor) + 2;
  const { header, memfiles, socket, metrics, record, prefetch } = files;
  const text = JSON.stringify({
    header: placed(header),
    memfiles: Object.fromEntries([...memfiles].map(([build, file]) => [build, placed(file)])),
    socket: placed(socket),
    metrics: placed(metrics),
    ...(record === undefined ? {} : { record: placed(record) }),
    ...(prefetch ? { prefetch: { from: placed(prefetch.from), limit_mib: prefetch.limitMib } } : {}),
  });
  return { descriptors, text };
}
