/** Where requests come in: plain HTTP/1.1, and TLS with HTTP/2 or HTTP/1.1, on one address. */
export { CertificateFile } from './certificate-file.ts';
export { Listener } from './listener.ts';
