/** The certificates by which clients of this machine trust this Perch. */

export { type Certified, ensureCertificate, readCertificate, renewCertificate } from './certificate.ts';
export { domainOf } from './domain.ts';
export { type TlsFiles, tlsFiles } from './files.ts';
