/** What a pager is told at its start. Pure. Source: crates/pager/src/config.rs. */
import type { BuildId } from '../../snapshot/index.ts';

/** Descriptors, or whatever stands for them. */
export interface PagerFiles<Descriptor> {
  header: Descriptor;
  memfiles: ReadonlyMap<BuildId, Descriptor>;
  /** Listens. */
  socket: Descriptor;
  metrics: Descriptor;
}

/** Descriptors that a program finds as 3, 4, …, and the text that tells it which is which. */
export function configurationOf(files: PagerFiles<number>): { descriptors: number[]; text: string } {
  const descriptors: number[] = [];
  const placed = (descriptor: number) => descriptors.push(descriptor) + 2;
  const { header, memfiles, socket, metrics } = files;
  const text = JSON.stringify({
    header: placed(header),
    memfiles: Object.fromEntries([...memfiles].map(([build, file]) => [build, placed(file)])),
    socket: placed(socket),
    metrics: placed(metrics),
  });
  return { descriptors, text };
}
