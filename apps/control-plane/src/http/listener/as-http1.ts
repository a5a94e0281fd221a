import type { Http2ServerRequest } from 'node:http2';

type Request = Pick<Http2ServerRequest, 'headers' | 'rawHeaders' | 'url'> & {
  stream: { endAfterHeaders: boolean };
};

const path = /^[\x21-\x7e\x80-\xff]+$/;

/**
 * Says a request of HTTP/2 in the words of HTTP/1.1 (RFC 9113, 8.3 and 10.3): `Host` for its authority, one `Cookie`,
 * and `Transfer-Encoding` where a body comes without a length.
 * @returns why it cannot be said so
 */
export function asHttp1(request: Request): string | undefined {
  const { headers, rawHeaders } = request;
  const { ':authority': authority, host } = headers;
  if (authority !== undefined && host !== undefined && host !== authority) {
    return 'Host and the authority of the request differ';
  }
  // Node would not put it on a line of HTTP/1.1 either.
  if (!path.test(request.url)) return 'The path of the request has characters that no path can have';
  const name = authority ?? host;
  const lines: string[] = [];
  const cookies: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const [header = '', value = ''] = rawHeaders.slice(at, at + 2);
    if (header === 'cookie') cookies.push(value);
    else if (!header.startsWith(':') && header !== 'host') lines.push(header, value);
  }
  if (name !== undefined) lines.unshift('host', name);
  if (cookies.length > 0) lines.push('cookie', cookies.join('; '));
  rawHeaders.splice(0, rawHeaders.length, ...lines);
  if (name !== undefined) headers.host = name;
  if (headers['content-length'] === undefined && !request.stream.endAfterHeaders) {
    headers['transfer-encoding'] = 'chunked';
  }
  return undefined;
}
