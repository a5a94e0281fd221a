/** Errors of a request that is refused before anything is looked at. */
import type { ErrorDescriptions } from './description.ts';

const nothing = 'Nothing was done.';

export const requestErrors = {
  validation_failed: {
    when: 'A field of the body, the query, the path, the form or a stream message is missing, unknown or out of its bounds, or the sandbox refuses a command or a path as such.',
    after:
      'Nothing was done. `problems` has an entry for each fault, whose `where` names the field. A stream is closed with code 1008, and its command ends.',
  },
  malformed_body: {
    when: 'The body is not UTF-8, not JSON, nested deeper than 32 levels, or holds half of a surrogate pair or the name `__proto__`; a form lacks its boundary or an end; an upload broke off.',
    after: 'Nothing was done. Nothing of an upload was kept.',
  },
  malformed_request: {
    when: 'The bytes are no HTTP/1.1 request, the URL is malformed, or `exec/stream` was asked for without a WebSocket.',
    after: 'Nothing was done. The connection is closed when the parser could not read on.',
  },
  headers_too_large: {
    when: 'The headers of a request are longer than the HTTP parser takes.',
    after: 'Nothing was done. The connection is closed.',
  },
  request_timeout: {
    when: 'The headers of a request did not come in time, or its JSON body did not come within 30 s.',
    after: nothing,
  },
  body_too_large: {
    when: 'A body is larger than its route takes: 1 MiB of JSON, 20 MiB for `exec`, 16 MiB for a message of `exec/stream`. Or the file of a form came before its path, and all files that wait like that are more than 1 GiB together.',
    after: 'Nothing was done. Nothing of a file was kept.',
  },
  unsupported_media_type: {
    when: 'The Content-Type or the Content-Encoding is none that the route takes.',
    after: nothing,
  },
  unauthorized: {
    when: 'The X-API-Key header is missing, or its key was never made or was deleted.',
    after:
      'Nothing was done. An address that goes on without a valid key gets `rate_limited` after 60 requests.',
  },
  origin_refused: {
    when: 'A browser opened `exec/stream` from a page of another site.',
    after: 'Nothing was done. A ticket in the URL is used up.',
  },
  ticket_invalid: {
    when: 'The ticket in the URL was used, is older than 60 s, was made for another sandbox or by a key that was deleted, or is from before a restart of `perchd`.',
    after: 'Nothing was done, and the ticket is used up.',
  },
  route_not_found: { when: 'There is no route of that path.', after: nothing },
  method_not_allowed: {
    when: 'There is such a path, and it does not take the method.',
    after: nothing,
  },
  rate_limited: {
    when: 'A key made more than 6000 requests in 10 s (`PERCH_RATE_LIMIT` sets both), an address made more than 600 requests in 10 s to what needs no key, or more than 60 in 60 s that no key opened.',
    after: 'Nothing was done. `retry_after_sec`, also in Retry-After, is when the next request passes.',
  },
  idempotency_mismatch: {
    when: 'The same API key used the Idempotency-Key within the last 24 h for a create with other fields.',
    after: 'Nothing was done. The sandbox of the first request is as it was.',
  },
  root_only: {
    when: 'An import was asked for on the socket of `perch-host` by a user who is not root.',
    after: nothing,
  },
  api_key_not_found: { when: 'A key that is to be deleted is none.', after: nothing },
  last_api_key: {
    when: 'The only key that is left is to be deleted.',
    after: 'The key stays: without one nobody could make another.',
  },
} satisfies Partial<ErrorDescriptions>;
