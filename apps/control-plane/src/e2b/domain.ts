import { isIP } from 'node:net';

const sane = /^[a-z0-9.-]{1,253}(?::\d{1,5})?$/;

/**
 * The domain below which the caller finds ports of sandboxes, as `{port}-{id}.{domain}`: the name by which it came
 * here. Without one E2B's clients take E2B's own. An address has no names below it, `localhost` has.
 * @param host header of the request
 */
export function domainOf(host: string | undefined, port: number | undefined): string {
  const name = host?.toLowerCase() ?? '';
  const own = /^(.*?)(?::(\d+))?$/.exec(name);
  if (!sane.test(name) || isIP(own?.[1] ?? '') !== 0) {
    const at = own?.[2] ?? port;
    return at === undefined ? 'localhost' : `localhost:${at}`;
  }
  return name.replace(/^api\./, '');
}
