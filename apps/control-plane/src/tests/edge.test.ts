/** Ports of sandboxes through the edge. A guest's agent and its programs are servers of this machine. */
import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { eventually, standsStill, TestPlane } from '../testing/index.ts';
import { ask, echo, type Reply, sendRaw, sign, WebServer } from '../testing/web-guest.ts';

let plane: TestPlane;
let agent: WebServer;
let well = true;
beforeAll(async () => {
  agent = await WebServer.start((asked, answer) => {
    if (asked.url === '/health') answer.writeHead(well ? 204 : 503).end();
    else echo(asked, answer);
  });
  plane = await TestPlane.start({}, undefined, agent.port);
}, 60_000);
afterAll(async () => {
  await plane[Symbol.asyncDispose]();
  await agent[Symbol.asyncDispose]();
});

interface Access {
  sandboxID: string;
  envdAccessToken: string;
  trafficAccessToken: string | null;
}

const api = async (method: string, path: string, json?: unknown) => {
  const answer = await plane.fetch(path, { method, ...(json === undefined ? {} : { json }) });
  const text = await answer.text();
  return (text ? JSON.parse(text) : undefined) as never;
};
const create = (body: object = {}): Promise<Access> =>
  api('POST', '/v2/sandboxes', { templateID: 'base', ...body });
const pause = (id: string) => api('POST', `/sandboxes/${id}/pause`, {});
const life = (id: string) => plane.host.created.find((one) => one.id === id)?.body.access_token;
/** Headers by which a request is for a port of a sandbox. */
const to = (id: string, port: number, more: Record<string, string> = {}) => ({
  'e2b-sandbox-id': id,
  'e2b-sandbox-port': String(port),
  ...more,
});
const toAgent = ({ sandboxID, envdAccessToken }: Access, more: Record<string, string> = {}) =>
  to(sandboxID, 49983, { 'x-access-token': envdAccessToken, ...more });
const said = (reply: Reply) => JSON.parse(reply.text);

let box: Access;
beforeEach(async () => {
  box = await create();
});

describe('a request is for a sandbox', () => {
  test('by headers, and goes to the port as it came', async () => {
    await using program = await WebServer.start(echo);
    const reply = await ask(
      plane.url,
      '/a%2Fb?x=%20y',
      to(box.sandboxID, program.port, { 'X-Two': 'b', te: 'trailers' }),
      { method: 'PUT', body: 'hello' },
    );
    expect(said(reply)).toMatchObject({ method: 'PUT', url: '/a%2Fb?x=%20y', body: 'hello' });
    expect(said(reply).rawHeaders).toEqual(expect.arrayContaining(['Host', 'X-Two']));
    expect(said(reply).headers).not.toHaveProperty('te');
  });

  test('by its name, which goes before headers', async () => {
    await using program = await WebServer.start(echo);
    const other = await create();
    const host = `${program.port}-${box.sandboxID}.perch.test`;
    const reply = await ask(plane.url, '/', { ...to(other.sandboxID, 1), host });
    expect(said(reply).headers.host).toBe(host);
    // In any case, as browsers and people write names.
    expect((await ask(plane.url, '/', { host: host.toUpperCase() })).status).toBe(200);
  });

  test('only when its port and id can be one', async () => {
    for (const [id, port] of [
      [box.sandboxID, ''],
      [box.sandboxID, '0'],
      [box.sandboxID, '65536'],
      [box.sandboxID, '1e3'],
      ['../x', '80'],
    ]) {
      const headers = { 'e2b-sandbox-id': id as string, 'e2b-sandbox-port': port as string };
      expect(await ask(plane.url, '/', headers)).toMatchObject({ status: 400 });
    }
    expect((await ask(plane.url, '/health', {})).status).toBe(200);
    expect((await ask(plane.url, '/health', { host: 'localhost' })).status).toBe(200);
  });

  test('and its program sees the name that the sandbox was made with', async () => {
    await using program = await WebServer.start(echo);
    const masked = await create({ network: { maskRequestHost: 'shop.test:$'.concat('{PORT}') } });
    const reply = await ask(plane.url, '/', to(masked.sandboxID, program.port));
    expect(said(reply).headers.host).toBe(`shop.test:${program.port}`);
  });
});

describe('the guest agent', () => {
  test('gets the token of the life in the place of that of the sandbox, over a pause', async () => {
    const ask1 = () => ask(plane.url, '/process.Process/List', toAgent(box), { method: 'POST', body: '{}' });
    const before = said(await ask1()).headers['x-access-token'];
    expect(before).toBe(life(box.sandboxID));
    await pause(box.sandboxID);
    await api('POST', `/v2/sandboxes/${box.sandboxID}/connect`, { timeout: 60 });
    const after = said(await ask1()).headers['x-access-token'];
    expect(after).toBe(plane.host.resumed.at(-1)?.body.access_token);
    expect(after).not.toBe(before);
  });

  test('takes no other token', async () => {
    const other = await create();
    for (const token of ['', 'x', other.envdAccessToken, life(box.sandboxID) ?? '']) {
      const headers = to(box.sandboxID, 49983, { 'x-access-token': token });
      const reply = await ask(plane.url, '/process.Process/List', headers, { method: 'POST', body: '{}' });
      expect([reply.status, said(reply).code]).toEqual([401, 401]);
    }
    const { status } = await ask(plane.url, '/envs', to(box.sandboxID, 49983));
    expect(status).toBe(401);
  });

  test.each([
    ['POST', '/init'],
    ['POST', '//init'],
    ['POST', '/%69nit'],
    ['POST', '/perch.Commands/List'],
    ['POST', '/process.Process/../init'],
    ['GET', '/process.Process/List'],
    ['POST', '/health'],
    ['DELETE', '/files'],
    ['GET', '/'],
  ])('hides %s %s', async (method, path) => {
    const reply = await sendRaw(
      plane.url,
      `${method} ${path} HTTP/1.1\r\nHost: a\r\nE2b-Sandbox-Id: ${box.sandboxID}\r\nE2b-Sandbox-Port: 49983\r\n` +
        `X-Access-Token: ${box.envdAccessToken}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`,
    );
    expect(reply).toMatch(/^HTTP\/1\.1 404 /);
    // By the number of its port in the guest it is the same.
    const direct = await ask(plane.url, '/init', { ...toAgent(box), ...to(box.sandboxID, agent.port) });
    expect(direct.status).toBe(404);
  });

  test('is asked before a pause that is to be refused where it does not answer', async () => {
    const strictly = async () =>
      (
        await plane.fetch(`/sandboxes/${box.sandboxID}/pause`, {
          ...{ method: 'POST', json: { requireHealthyGuest: true } },
        })
      ).status;
    well = false;
    expect(await strictly()).toBe(503);
    well = true;
    expect((await plane.get(box.sandboxID)).status).toBe('running');
    expect(await strictly()).toBe(204);
  });

  test('answers /health without a token, and pages of any site may ask', async () => {
    expect((await ask(plane.url, '/health', to(box.sandboxID, 49983))).status).toBe(204);
    const asked = await ask(plane.url, '/files', to(box.sandboxID, 49983), { method: 'OPTIONS' });
    expect([asked.status, asked.headers['access-control-allow-origin']]).toEqual([204, '*']);
  });
});

describe('a signed URL', () => {
  const get = (query: string, headers: Record<string, string> = {}) =>
    ask(plane.url, `/files?${query}`, headers);
  const signed = (path: string, rest: string[] = []) =>
    encodeURIComponent(sign(path, 'read', box.envdAccessToken, rest));

  test('names its sandbox by its signature, and reads what was signed and nothing else', async () => {
    const reply = await get(`path=%2Fa%20b&signature=${signed('/a b')}&path=%2Fetc&username=root`);
    expect(reply.status).toBe(401);
    const good = said(await get(`path=%2Fa%20b&signature=${signed('/a b')}&path=%2Fetc&x=1`));
    expect([good.url, good.headers['x-access-token']]).toEqual(['/files?path=%2Fa+b', life(box.sandboxID)]);
  });

  test('is good for its path, its way and its time', async () => {
    const soon = String(Math.floor(Date.now() / 1000) + 60);
    const past = String(Math.floor(Date.now() / 1000) - 1);
    const by = to(box.sandboxID, 49983);
    expect((await get(`path=/a&signature=${signed('/a', [soon])}&signature_expiration=${soon}`)).status).toBe(
      200,
    );
    const late = await get(`path=/a&signature=${signed('/a', [past])}&signature_expiration=${past}`, by);
    expect(said(late)).toEqual({ code: 401, message: 'signature is already expired' });
    expect(said(await get('path=/a', by)).message).toBe('missing signature query parameter');
    expect(said(await get(`path=/b&signature=${signed('/a')}`, by)).message).toBe('invalid signature');
    const write = await ask(plane.url, `/files?path=/a&signature=${signed('/a')}`, by, { method: 'POST' });
    expect(said(write).message).toBe('invalid signature');
  });
});

describe('what the edge says itself', () => {
  const lost = (id: string) => ({ sandboxId: id, message: 'The sandbox was not found', code: 502 });

  test('of a sandbox that is not there, paused or gone: 502', async () => {
    const paused = await create();
    await pause(paused.sandboxID);
    const killed = await create();
    await api('DELETE', `/sandboxes/${killed.sandboxID}`);
    for (const { sandboxID } of [paused, killed, { sandboxID: 'sb000000000000000000' }]) {
      for (const [port, path] of [
        [3000, '/'],
        [49983, '/health'],
      ] as const) {
        const reply = await ask(plane.url, path, to(sandboxID, port));
        expect([reply.status, said(reply)]).toEqual([502, lost(sandboxID)]);
      }
    }
  });

  const browser = 'Mozilla/5.0 (X11; Linux x64) AppleWebKit/537.36 Chrome/91.0 Safari/537.36';
  test.each([
    ['that accepts a page', 'text/html', { accept: 'text/html,*/*' }],
    ['of a browser', 'text/html', { 'user-agent': browser }],
    [
      'of a browser that goes to an address',
      'text/html',
      { 'user-agent': browser, 'sec-fetch-mode': 'navigate' },
    ],
    [
      'of a script in a browser',
      'application/json',
      { 'user-agent': browser, 'sec-fetch-mode': 'cors', accept: '*/*' },
    ],
    [
      'of an older script',
      'application/json',
      { 'user-agent': browser, 'x-requested-with': 'XMLHttpRequest' },
    ],
    ['for JSON', 'application/json', { 'user-agent': browser, accept: 'application/json' }],
    ['of a program', 'application/json', { 'user-agent': 'curl/8' }],
  ] as const)('to a request %s: %s', async (_, type, headers) => {
    const page = await ask(plane.url, '/', to('nobody', 80, headers));
    expect([page.status, page.headers['content-type']?.split(';')[0]]).toEqual([502, type]);
  });

  test('of one that has failed: 502', async () => {
    plane.host.change(box.sandboxID, { status: 'failed', reason: 'it ended' });
    await eventually(async () => (await plane.get(box.sandboxID)).status === 'failed');
    const reply = await ask(plane.url, '/', to(box.sandboxID, 3000));
    expect([reply.status, said(reply)]).toEqual([502, lost(box.sandboxID)]);
  });

  test('of a port where nothing listens: 502 with the port', async () => {
    const closed = await WebServer.start(echo);
    const { port } = closed;
    await closed[Symbol.asyncDispose]();
    const reply = await ask(plane.url, '/', to(box.sandboxID, port));
    const message = 'The sandbox is running but port is not open';
    expect([reply.status, said(reply)]).toEqual([
      502,
      { sandboxId: box.sandboxID, message, port, code: 502 },
    ]);
    const page = await ask(plane.url, '/', to(box.sandboxID, port, { accept: 'text/html' }));
    expect(page.text).toContain('<title>Closed Port Error</title>');
  });

  test('of a private sandbox without its token: 403, and the program never sees the token', async () => {
    await using program = await WebServer.start(echo);
    const closed = await create({ network: { allowPublicTraffic: false } });
    const by = (token?: string) =>
      ask(
        plane.url,
        '/',
        to(closed.sandboxID, program.port, token === undefined ? {} : { 'e2b-traffic-access-token': token }),
      );
    expect((await by()).status).toBe(403);
    expect((await by(closed.envdAccessToken)).status).toBe(403);
    const reply = await by(closed.trafficAccessToken ?? '');
    expect(reply.status).toBe(200);
    expect(said(reply).headers).not.toHaveProperty('e2b-traffic-access-token');
    const ours = await plane.create();
    expect((await ask(plane.url, '/', to(ours.id, program.port))).status).toBe(403);
  });

  test('while it is being paused: 502 to /health and 409 to others', async () => {
    const held = Promise.withResolvers<void>();
    plane.host.onPause = () => held.promise;
    const pausing = pause(box.sandboxID);
    await eventually(async () => (await plane.get(box.sandboxID)).status === 'pausing');
    expect((await ask(plane.url, '/health', to(box.sandboxID, 49983))).status).toBe(502);
    const reply = await ask(plane.url, '/', to(box.sandboxID, 3000));
    held.resolve();
    await pausing;
    plane.host.onPause = () => {};
    expect([reply.status, said(reply).code]).toEqual([409, 409]);
  });
});

describe('a stream', () => {
  const open = (id: string, port: number): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const asked = request(plane.url, { headers: to(id, port), agent: false }, resolve);
      asked.on('error', reject).end();
    });

  test('comes as it is sent, and its head before its first byte', async () => {
    const answers: ServerResponse[] = [];
    await using program = await WebServer.start((_asked, answer) => {
      answer.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      answers.push(answer);
    });
    const stream = await open(box.sandboxID, program.port);
    for (const text of ['one', 'two']) {
      answers[0]?.write(text);
      const [chunk] = (await once(stream, 'data')) as [Buffer];
      expect(chunk.toString()).toBe(text);
    }
    answers[0]?.end();
    await once(stream, 'end');
  });

  test('goes up as it is sent', async () => {
    const asked = Promise.withResolvers<IncomingMessage>();
    await using program = await WebServer.start((incoming, answer) => {
      asked.resolve(incoming);
      incoming.on('end', () => answer.end('done'));
    });
    const upload = request(plane.url, {
      method: 'POST',
      headers: to(box.sandboxID, program.port),
      agent: false,
    });
    upload.flushHeaders();
    const incoming = await asked.promise;
    for (const text of ['one', 'two']) {
      upload.write(text);
      const [chunk] = (await once(incoming, 'data')) as [Buffer];
      expect(chunk.toString()).toBe(text);
    }
    upload.end();
    const [answer] = (await once(upload, 'response')) as [IncomingMessage];
    answer.resume();
    await once(answer, 'end');
  });

  /** A request whose body waits until somebody says `continue`. */
  const offer = (id: string, port: number) => {
    const asked = request(plane.url, {
      method: 'POST',
      headers: to(id, port, {
        ...{ expect: '100-continue', 'content-length': '4', connection: 'keep-alive' },
      }),
      agent: false,
    });
    let continued = false;
    asked.once('continue', () => {
      continued = true;
      asked.end('body');
    });
    const response = once(asked, 'response') as Promise<[IncomingMessage]>;
    return {
      get continued() {
        return continued;
      },
      async answer() {
        const [answer] = await response;
        asked.on('error', () => {});
        answer.resume();
        await once(answer, 'end');
        return { status: answer.statusCode, connection: answer.headers.connection };
      },
    };
  };

  test('that waits to be told to go on is told by its program, and by nobody else', async () => {
    const waiting = Promise.withResolvers<[IncomingMessage, ServerResponse]>();
    await using program = await WebServer.start(echo);
    program.server.on('checkContinue', (asked, answer) => waiting.resolve([asked, answer]));
    const offered = offer(box.sandboxID, program.port);
    const [asked, answer] = await waiting.promise;
    expect(asked.headers.expect).toBe('100-continue');
    expect(offered.continued).toBe(false);
    answer.writeContinue();
    const [chunk] = (await once(asked, 'data')) as [Buffer];
    expect(chunk.toString()).toBe('body');
    answer.end();
    expect(await offered.answer()).toEqual({ status: 200, connection: 'keep-alive' });
  });

  test('that nobody wants to have stays at its client, and its connection ends', async () => {
    await using program = await WebServer.start(echo);
    program.server.on('checkContinue', (_asked, answer) => answer.writeHead(413).end('too large'));
    for (const [id, port, status] of [
      [box.sandboxID, program.port, 413],
      [box.sandboxID, 9, 502],
      ['none', 80, 502],
    ] as const) {
      const offered = offer(id, port);
      expect(await offered.answer()).toEqual({ status, connection: 'close' });
      expect(offered.continued).toBe(false);
    }
    await eventually(
      () => new Promise<boolean>((resolve) => program.server.getConnections((_e, n) => resolve(n === 0))),
    );
  });

  test('of the API itself is told to go on', async () => {
    const asked = request(`${plane.url}/v2/sandboxes`, {
      method: 'POST',
      headers: { expect: '100-continue', 'x-api-key': plane.key, 'content-type': 'application/json' },
      agent: false,
    });
    asked.once('continue', () => asked.end('{"templateID":"base"}'));
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    answer.resume();
    expect(answer.statusCode).toBe(201);
  });

  test('is reset at the end of the life, and what has no answer yet is told', async () => {
    await using program = await WebServer.start((asked, answer) => {
      if (asked.url === '/') answer.write('begun');
    });
    const stream = await open(box.sandboxID, program.port);
    await once(stream, 'data');
    const waiting = ask(plane.url, '/wait', to(box.sandboxID, program.port));
    const broken = once(stream, 'error');
    await eventually(
      () => new Promise<boolean>((resolve) => program.server.getConnections((_e, n) => resolve(n === 2))),
    );
    await api('DELETE', `/sandboxes/${box.sandboxID}`);
    expect(await broken).toMatchObject([{ code: 'ECONNRESET' }]);
    expect(said(await waiting)).toEqual({
      ...{ sandboxId: box.sandboxID, message: 'The sandbox was not found', code: 502 },
    });
  });

  test('that its program breaks off is broken off for its client, too', async () => {
    await using program = await WebServer.start((_asked, answer) => {
      answer.writeHead(200, { 'content-length': '100' });
      answer.write('some', () => answer.destroy());
    });
    await expect(ask(plane.url, '/', to(box.sandboxID, program.port))).rejects.toThrow(/aborted|hang up/);
  });

  test('whose client goes away ends at its program', async () => {
    const ended = Promise.withResolvers<void>();
    await using program = await WebServer.start((_asked, answer) => {
      answer.on('close', ended.resolve).write('begun');
    });
    const stream = await open(box.sandboxID, program.port);
    await once(stream, 'data');
    stream.destroy();
    await ended.promise;
  });
});

describe('a WebSocket', () => {
  test('goes both ways, and ends with the life', async () => {
    await using program = await WebServer.start(echo);
    const sockets = new WebSocketServer({ server: program.server });
    sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(`got ${data}`)));
    const socket = new WebSocket(plane.url.replace('http', 'ws'), {
      headers: to(box.sandboxID, program.port),
    });
    await once(socket, 'open');
    socket.send('this');
    expect(String((await once(socket, 'message'))[0])).toBe('got this');
    const closed = once(socket, 'close');
    await pause(box.sandboxID);
    expect((await closed)[0]).toBe(1006);
  });

  test('that is refused has the refusal of its program, or of the edge', async () => {
    await using program = await WebServer.start(echo);
    program.server.on('upgrade', (_request, socket: Duplex) => {
      socket.end('HTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n');
    });
    const refusal = async (headers: Record<string, string>) => {
      const socket = new WebSocket(plane.url.replace('http', 'ws'), { headers });
      const [, answer] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
      answer.resume();
      return answer.statusCode;
    };
    expect(await refusal(to(box.sandboxID, program.port))).toBe(418);
    expect(await refusal(to('nobody', program.port))).toBe(502);
    expect(await refusal(toAgent(box))).toBe(404);
    const closed = await create({ network: { allowPublicTraffic: false } });
    expect(await refusal(to(closed.sandboxID, program.port))).toBe(403);
  });

  test('is the only thing that a connection is handed over for', async () => {
    await using program = await WebServer.start(echo);
    const headers = to(box.sandboxID, program.port, {
      connection: 'Upgrade, HTTP2-Settings',
      upgrade: 'h2c',
    });
    const reply = await ask(plane.url, '/', headers);
    expect([reply.status, said(reply).headers.upgrade]).toEqual([200, undefined]);
  });
});

describe('traffic wakes a sandbox that is to be woken', () => {
  const asleep = async (network: object = {}) => {
    const made = await create({ timeout: 20, autoPause: true, autoResume: { enabled: true }, network });
    await pause(made.sandboxID);
    return made;
  };
  const status = async (id: string) => (await plane.get(id)).status;

  test('once for many requests, and for 300 s at least', async () => {
    await using program = await WebServer.start(echo);
    const { sandboxID: id } = await asleep();
    const before = plane.host.resumed.length;
    const replies = await Promise.all([1, 2, 3].map(() => ask(plane.url, '/', to(id, program.port))));
    expect(replies.map((reply) => reply.status)).toEqual([200, 200, 200]);
    expect(plane.host.resumed.length).toBe(before + 1);
    const left = Date.parse((await plane.get(id)).expires_at ?? '') - Date.now();
    expect(left).toBeGreaterThan(290_000);
  });

  test('and a client that leaves meanwhile reaches no program', async () => {
    const asked: (string | undefined)[] = [];
    await using program = await WebServer.start((incoming, answer) => {
      asked.push(incoming.url);
      answer.end();
    });
    const { sandboxID: id } = await asleep();
    const [resuming, left] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    plane.host.onResume = () => {
      resuming.resolve();
      return left.promise;
    };
    const leaving = request(`${plane.url}/gone`, {
      ...{ method: 'PATCH', headers: to(id, program.port), agent: false },
    });
    leaving.on('error', () => {}).end();
    await resuming.promise;
    leaving.destroy();
    await eventually(async () => (await (await plane.fetch('/metrics')).text()).includes('method="PATCH"'));
    left.resolve();
    await eventually(async () => (await status(id)) === 'running');
    await ask(plane.url, '/after', to(id, program.port));
    expect(asked).toEqual(['/after']);
  });

  test('but not by those who may not, and not by a look at its health', async () => {
    const made = await asleep({ allowPublicTraffic: false });
    const { sandboxID: id } = made;
    expect((await ask(plane.url, '/', to(id, 3000))).status).toBe(403);
    expect((await ask(plane.url, '/envs', to(id, 49983, { 'x-access-token': 'x' }))).status).toBe(401);
    expect((await ask(plane.url, '/health', toAgent(made))).status).toBe(502);
    expect(await status(id)).toBe('paused');
    expect((await ask(plane.url, '/envs', toAgent(made))).status).toBe(200);
    expect(await status(id)).toBe('running');
  });
});

describe('bad input', () => {
  const raw = (head: string, rest = '') =>
    sendRaw(
      plane.url,
      `POST / HTTP/1.1\r\nHost: a\r\nE2b-Sandbox-Id: ${box.sandboxID}\r\nE2b-Sandbox-Port: ${agent.port}\r\n${head}\r\n\r\n${rest}`,
    );

  test.each([
    ['both lengths', 'Content-Length: 4\r\nTransfer-Encoding: chunked', '0\r\n\r\nGET /x HTTP/1.1\r\n\r\n'],
    ['two lengths', 'Content-Length: 4\r\nContent-Length: 5', 'abcd'],
    ['a bare CR', 'X-A: b\rX-B: c\r\nContent-Length: 0', ''],
    ['chunked as a list', 'Transfer-Encoding: chunked, identity', '0\r\n\r\n'],
    ['a length that is none', 'Content-Length: +4', 'abcd'],
  ])('%s is no request', async (_name, head, rest) => {
    expect(await raw(head, rest)).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('extensions of chunks end at the edge, and so does a line of them that is too long', async () => {
    await using program = await WebServer.start((asked, answer) => {
      let bytes = '';
      asked.socket.on('data', (chunk) => {
        bytes += chunk;
      });
      asked.resume().on('end', () => answer.end(`got ${bytes.length}`));
    });
    const chunked = (body: string) =>
      sendRaw(
        plane.url,
        `POST / HTTP/1.1\r\nHost: a\r\nE2b-Sandbox-Id: ${box.sandboxID}\r\nE2b-Sandbox-Port: ${program.port}\r\n` +
          `Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n${body}`,
      );
    expect(await chunked('4;a=b;c="d"\r\nbody\r\n0;x\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /);
    expect(await chunked(`4;${'a'.repeat(20_000)}\r\nbody\r\n0\r\n\r\n`)).toMatch(/^HTTP\/1\.1 400 /);
    expect(await chunked('4\nbody\r\n0\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  });

  test.each([
    ['both lengths', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd'],
    ['a bare CR', 'X-A: b\rX-B: c\r\nContent-Length: 0\r\n\r\n'],
    ['10,000 headers', `${'X: y\r\n'.repeat(10_000)}\r\n`],
  ])('an answer with %s is 502', async (_name, rest) => {
    await using program = await WebServer.start((asked) => asked.socket.end(`HTTP/1.1 200 OK\r\n${rest}`));
    expect((await ask(plane.url, '/', to(box.sandboxID, program.port))).status).toBe(502);
  });

  test('a second answer after the first is nobody’s', async () => {
    let asked = 0;
    await using program = await WebServer.start((incoming) => {
      asked++;
      const one = (text: string) => `HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n${text}`;
      incoming.socket.write(one('one') + one('two'));
    });
    for (const _ of [1, 2])
      expect((await ask(plane.url, '/', to(box.sandboxID, program.port))).text).toBe('one');
    expect(asked).toBe(2);
  });

  test('a body that never ends, a client that never reads and a program that never answers hold up nobody', async () => {
    let written = 0;
    await using program = await WebServer.start((asked, answer) => {
      if (asked.url === '/endless') asked.resume();
      else if (asked.url === '/unread') {
        const write = () => {
          for (let more = true; more; written += 65_536) more = answer.write(Buffer.alloc(65_536));
        };
        answer.on('drain', write);
        write();
      } else if (asked.url !== '/never') echo(asked, answer);
    });
    const begin = (path: string, method = 'GET') =>
      request(plane.url + path, { method, headers: to(box.sandboxID, program.port), agent: false }).on(
        'error',
        () => {},
      );
    const endless = begin('/endless', 'POST');
    let sent = 0;
    const write = () => {
      for (let more = true; more && !endless.destroyed; sent += 65_536)
        more = endless.write(Buffer.alloc(65_536));
    };
    endless.on('drain', write);
    write();
    const unread = begin('/unread').end();
    const [answer] = (await once(unread, 'response')) as [IncomingMessage];
    const never = begin('/never').end();
    await eventually(() => sent > 8 * 1024 * 1024);
    expect((await ask(plane.url, '/', to(box.sandboxID, program.port))).status).toBe(200);
    expect((await ask(plane.url, '/health', {})).status).toBe(200);
    await standsStill(() => written);
    expect(written).toBeLessThan(64 * 1024 * 1024);
    for (const one of [endless, never, answer]) one.destroy();
    // What was begun for them ends at their program, too.
    await eventually(
      () => new Promise<boolean>((resolve) => program.server.getConnections((_e, n) => resolve(n === 0))),
    );
  });

  test('10,000 headers or one of 64 KiB are too many', async () => {
    expect(await raw(Array.from({ length: 10_000 }, (_, i) => `X-${i}: y`).join('\r\n'))).toMatch(
      /^HTTP\/1\.1 431 /,
    );
    expect(await raw(`X-Long: ${'y'.repeat(65_536)}`)).toMatch(/^HTTP\/1\.1 431 /);
  });

  test('an answer that is none is 502, and other requests go on', async () => {
    await using program = await WebServer.start((asked) => {
      asked.socket.end(
        asked.url === '/long' ? `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(70_000)}\r\n\r\n` : 'nonsense\r\n\r\n',
      );
    });
    for (const path of ['/long', '/nonsense']) {
      expect((await ask(plane.url, path, to(box.sandboxID, program.port))).status).toBe(502);
    }
    expect((await ask(plane.url, '/health', to(box.sandboxID, 49983))).status).toBe(204);
  });

  test.each([
    ['a path', 'GET //a%00%ff"<>|{}?%zz#x HTTP/1.1', ''],
    ['a header', 'GET / HTTP/1.1', 'X-Odd: \xff\x80\r\n'],
    ['a method', 'PROPFIND / HTTP/1.1', ''],
  ])('%s that nobody expects goes to the program as it is', async (_name, line, header) => {
    await using program = await WebServer.start(echo);
    const reply = await sendRaw(
      plane.url,
      `${line}\r\nHost: a\r\n${header}E2b-Sandbox-Id: ${box.sandboxID}\r\nE2b-Sandbox-Port: ${program.port}\r\nConnection: close\r\n\r\n`,
    );
    expect(reply).toMatch(/^HTTP\/1\.1 200 /);
  });

  test('a target that is no path is refused', async () => {
    const reply = await sendRaw(
      plane.url,
      `GET http://x/init HTTP/1.1\r\nHost: a\r\nE2b-Sandbox-Id: ${box.sandboxID}\r\nE2b-Sandbox-Port: 49983\r\nConnection: close\r\n\r\n`,
    );
    expect(reply).toMatch(/^HTTP\/1\.1 400 /);
  });
});

afterEach(() => {
  plane.host.onPause = () => {};
  plane.host.onResume = () => {};
});

test('a stream and a WebSocket keep perchd from no end, and the sandbox lives on', async () => {
  const waits = Promise.withResolvers<void>();
  await using program = await WebServer.start((asked, answer) => {
    if (asked.url === '/wait') waits.resolve();
    else answer.write('begun');
  });
  new WebSocketServer({ server: program.server });
  const socket = new WebSocket(plane.url.replace('http', 'ws'), { headers: to(box.sandboxID, program.port) });
  await once(socket, 'open');
  const asked = request(plane.url, { headers: to(box.sandboxID, program.port), agent: false }).end();
  const [stream] = (await once(asked, 'response')) as [IncomingMessage];
  await once(stream, 'data');
  const waiting = ask(plane.url, '/wait', to(box.sandboxID, program.port));
  await waits.promise;
  const ends = Promise.all([once(socket, 'close'), once(stream, 'error')]);
  await plane.down();
  await ends;
  expect((await waiting).status).toBe(503);
  expect(plane.logLines.filter((line) => line.includes('cutting requests'))).toEqual([]);
  await plane.up();
  expect((await plane.get(box.sandboxID)).status).toBe('running');
});
