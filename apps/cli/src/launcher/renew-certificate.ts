/**
 * `renew-certificate.mjs`: renews the certificate of a data directory that ends soon, as root, before systemd starts
 * perchd. A bundle of its own, since units may not depend on a checkout.
 */
import { findUser } from '@perch/node-kit';
import { readSettings } from '@perch/protocol';
import { renewCertificate, tlsFiles } from '../tls/index.ts';

const owner = await findUser(process.env.PERCH_USER || 'perch');
if (owner) await renewCertificate(tlsFiles(readSettings().dataDir), owner);
