interface Sink {
  readonly closed: boolean;
  on(event: 'drain' | 'close', listener: () => void): this;
  off(event: 'drain' | 'close', listener: () => void): this;
}

/** Resolves when a stream takes more, or takes nothing any more. It leaves no listener, however often it is waited for. */
export function drainedOrClosed(sink: Sink): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      sink.off('drain', done).off('close', done);
      resolve();
    };
    if (sink.closed) resolve();
    else sink.on('drain', done).on('close', done);
  });
}
