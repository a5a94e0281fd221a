/** The part of a WebSocket that a session needs. */
export interface ServerSocket {
  readonly bufferedAmount: number;
  readonly readyState: number;
  send(data: string | Buffer, done: (error?: Error | null) => void): void;
  ping(): void;
  pause(): void;
  resume(): void;
  close(code: number, reason: string): void;
  terminate(): void;
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): unknown;
  on(event: 'pong' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

/** `readyState` while it can be sent to. */
export const open = 1;
/** Bytes that wait for the client before nothing more is made for it. */
export const maxUnsentBytes = 1024 * 1024;
