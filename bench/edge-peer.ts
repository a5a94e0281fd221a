/** A program in the sandbox that gives and takes bytes by HTTP, and holds WebSockets that say nothing. */
import type { ExecStream, Perch } from '../packages/sdk/src/index.ts';

/** `GET /N` gives N bytes, `PUT /N` takes as many. Whoever comes to the other port is upgraded. */
const program = `
import selectors, socket, threading
zeros = bytes(1 << 20)
def head_of(client):
    head = b''
    while b'\\r\\n\\r\\n' not in head:
        piece = client.recv(65536)
        if not piece:
            raise EOFError
        head += piece
    return head.split(b'\\r\\n\\r\\n', 1)
def give_or_take(client):
    with client:
        head, body = head_of(client)
        method, path, _ = head.split(b'\\r\\n')[0].split()
        left = int(path[1:])
        answer = b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n'
        if method == b'GET':
            client.sendall(answer % left)
            while left:
                left -= client.send(zeros[:left] if left < len(zeros) else zeros)
            return
        left -= len(body)
        buffer = memoryview(bytearray(1 << 20))
        while left:
            taken = client.recv_into(buffer)
            if not taken:
                raise EOFError
            left -= taken
        client.sendall(answer % 0)
def serve_bytes(listener):
    while True:
        threading.Thread(target=give_or_take, args=listener.accept()[:1], daemon=True).start()
def serve_sockets(listener):
    clients = selectors.DefaultSelector()
    clients.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in clients.select():
            if key.fileobj is listener:
                clients.register(listener.accept()[0], selectors.EVENT_READ)
            elif data := key.fileobj.recv(65536):
                key.fileobj.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')
            else:
                clients.unregister(key.fileobj)
                key.fileobj.close()
listeners = [socket.create_server(('0.0.0.0', port), backlog=1024) for port in (5002, 5003)]
threading.Thread(target=serve_bytes, args=listeners[:1], daemon=True).start()
print('ready', flush=True)
serve_sockets(listeners[1])
`;

export class EdgePeer implements AsyncDisposable {
  readonly bytesPort = 5002;
  readonly socketsPort = 5003;
  readonly #process: ExecStream;

  private constructor(process: ExecStream) {
    this.#process = process;
  }

  static async start(perch: Perch, sandbox: string): Promise<EdgePeer> {
    const process = await perch.sandboxes.execStream(sandbox, { cmd: 'python3', args: ['-c', program] });
    const first = await process[Symbol.asyncIterator]().next();
    if (first.value?.type !== 'stdout') throw new Error('The peer did not start.');
    return new EdgePeer(process);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
    await this.#process[Symbol.asyncDispose]();
  }
}
