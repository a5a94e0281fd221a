import type { SignalName } from '@perch/protocol';
import type { ExecStream } from '@perch/sdk';

const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const satisfies SignalName[];

/** Interrupts after which a command that ignores them is killed. */
const patience = 3;

/** Signals to this process go to the command, until disposed of. SIGUSR1 is Node's own. */
export function forwardSignals(stream: Pick<ExecStream, 'signal' | 'stop'>): Disposable {
  let interrupts = 0;
  const listeners = forwarded.map((name) => {
    const listener = () => {
      if (name === 'SIGINT') interrupts++;
      const sent = interrupts >= patience ? stream.stop() : stream.signal(name);
      // A connection that broke meanwhile is told by the output's end.
      sent.catch(() => {});
    };
    process.on(name, listener);
    return { name, listener };
  });
  return {
    [Symbol.dispose]() {
      for (const { name, listener } of listeners) process.off(name, listener);
    },
  };
}
