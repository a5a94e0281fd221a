/** Names and addresses. */
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Settings } from '@perch/protocol';
import { type Finding, ok, problem, warning } from './finding.ts';

const someName = 'deb.debian.org';
const patienceMs = 3_000;

export async function dns(): Promise<Finding> {
  const setting = process.env.PERCH_DNS;
  const servers = setting
    ? [setting]
    : [...readFileSync('/etc/resolv.conf', 'utf8').matchAll(/^nameserver\s+(\S+)/gm)].map(
        (match) => match[1],
      );
  if (servers.length === 0) {
    return warning(
      'DNS',
      '/etc/resolv.conf names no server',
      'Sandboxes resolve no names. Set PERCH_DNS to the address of one.',
    );
  }
  if (setting) return ok('DNS', `${setting}, by PERCH_DNS`);
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error('no answer in time')), patienceMs);
  try {
    await Promise.race([lookup(someName), late.promise]);
    return ok('DNS', `${servers.join(', ')} resolves names`);
  } catch {
    return warning(
      'DNS',
      `${servers.join(', ')} did not resolve ${someName}`,
      'Sandboxes may resolve no names. Check the network, or set PERCH_DNS.',
    );
  } finally {
    clearTimeout(timer);
  }
}

/** @param taken a Perch answers there */
export async function listenAddress({ listen }: Settings, taken: boolean): Promise<Finding> {
  const name = 'address';
  if (taken) return ok(name, `Perch answers at http://${listen}`);
  const url = URL.parse(`http://${listen}`);
  if (!url || !/:\d+$/.test(listen))
    return problem(name, `PERCH_LISTEN is ${listen}`, 'Write it as ADDRESS:PORT.');
  const server = createServer();
  try {
    server.listen({ host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) });
    await once(server, 'listening');
    return ok(name, `${listen} is free`);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === 'EADDRINUSE' ? 'is taken by something that is not Perch' : `cannot be listened on (${code})`;
    return problem(
      name,
      `${listen} ${why}`,
      'Stop what listens there, or choose another, as PERCH_LISTEN=127.0.0.1:7071.',
    );
  } finally {
    server.close();
  }
}
