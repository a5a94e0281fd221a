/** A certificate of a test's own, for names below `perch.test`. */
import { execFile } from 'node:child_process';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Makes it where perchd looks. @returns the certificate, to be trusted */
export async function certify(tlsDir: string): Promise<Buffer> {
  await mkdir(tlsDir, { recursive: true });
  const certificate = join(tlsDir, 'server.pem');
  const key = [
    ...['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
    ...['-keyout', join(tlsDir, 'server.key')],
  ];
  const names = 'subjectAltName=DNS:*.perch.test,DNS:perch.test,DNS:localhost,IP:127.0.0.1,IP:::1';
  await promisify(execFile)('openssl', [
    ...[
      'req',
      '-x509',
      ...key,
      '-days',
      '1',
      '-subj',
      '/CN=perch.test',
      '-addext',
      names,
      '-out',
      certificate,
    ],
  ]);
  return readFile(certificate);
}
