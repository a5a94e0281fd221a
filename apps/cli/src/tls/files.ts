import { join } from 'node:path';
import { dataPaths } from '@perch/protocol';

/** Everybody can read all but the keys. */
export interface TlsFiles {
  dir: string;
  /** Certificate of the authority. */
  authority: string;
  /** 0600 root. */
  authorityKey: string;
  certificate: string;
  /** 0600, of the user of perchd. */
  key: string;
  /** The certificates that the machine trusts, and that of the authority. */
  bundle: string;
}

export function tlsFiles(dataDir: string): TlsFiles {
  const dir = dataPaths(dataDir).tls;
  return {
    dir,
    authority: join(dir, 'ca.pem'),
    authorityKey: join(dir, 'ca.key'),
    certificate: join(dir, 'server.pem'),
    key: join(dir, 'server.key'),
    bundle: join(dir, 'bundle.pem'),
  };
}
