/**
 * Where a guest may not go: all that is not the public Internet (RFC 6890), cloud metadata (169.254.169.254,
 * 100.100.100.200, 192.0.0.192) among it.
 */
export const closedRanges = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
] as const;

/** Public addresses that are a cloud's own: Azure's host agent. */
export const closedHosts = ['168.63.129.16'] as const;
