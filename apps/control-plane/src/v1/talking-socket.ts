import { type ExecServerMessage, PerchError } from '@perch/protocol';
import { WebSocket } from 'ws';
import { maxMessageBytes } from '../exec/index.ts';

const tooLarge = 1009;
/** Codes by which ws closes a connection whose peer broke the protocol; it gives no reason then. */
const broken = [1002, 1007, tooLarge];

/** A WebSocket whose peer is told what was wrong before it is closed. */
export class TalkingSocket extends WebSocket {
  override close(code?: number, reason?: string | Buffer): void {
    if (
      code !== undefined &&
      broken.includes(code) &&
      reason === undefined &&
      this.readyState === this.OPEN
    ) {
      const error = code === tooLarge ? large() : malformed();
      this.send(JSON.stringify({ type: 'error', ...error.toBody() } satisfies ExecServerMessage));
      super.close(code, error.code);
    } else super.close(code, reason);
  }
}

function large(): PerchError {
  return new PerchError('body_too_large', `The message is larger than ${maxMessageBytes} bytes.`, {
    limit_bytes: maxMessageBytes,
  });
}

function malformed(): PerchError {
  const message = 'The message is no message of a WebSocket.';
  return new PerchError('malformed_request', message, { reason: 'RFC 6455' });
}
