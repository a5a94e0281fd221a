import type { Command } from 'commander';
import pc from 'picocolors';
import type { CertifyResult } from '../launcher/index.ts';
import type { Output } from '../output.ts';
import { localEnvironment } from '../systemd/index.ts';

export function addTls(program: Command, output: Output): void {
  const tls = program.command('tls').description('certificates for https and HTTP/2');
  tls
    .command('init')
    .description('make or renew the certificate of this Perch, and tell how to trust it')
    .option(
      '--domain <domain>',
      'sandboxes have names below it (default: PERCH_DOMAIN, else perch.localhost)',
    )
    .addHelpText(
      'after',
      `
Needs root. Makes an authority of this machine's own, and by it a certificate for the domain, all names below it, and
localhost. Perch serves it from the next connection on, on the address that it listens on: https and plain http side by
side. Nobody trusts it before being told to; the authority can speak for these names and loopback alone.

Typed again it renews a certificate that ends within 90 days, as each start of Perch does, and changes nothing else.
For another domain it makes another authority, which is to be trusted anew.

Examples:
  sudo perch tls init
  eval "$(perch e2b env --tls)" && node agent.js
  curl --cacert /var/lib/perch/tls/ca.pem https://api.perch.localhost:7070/health`,
    )
    .action(async ({ domain }: { domain?: string }) => {
      const { certify } = await import('../launcher/index.ts');
      tell(output, await certify(await localEnvironment(), domain));
    });
}

const changes: Record<CertifyResult['change'], string> = {
  made: 'was made',
  renewed: 'was renewed',
  unchanged: 'is as it was',
};

function tell(output: Output, result: CertifyResult): void {
  const { domain, expires_at, change, files, authority } = result;
  output.value(result);
  output.line(`The certificate for ${pc.bold(`*.${domain}`)} ${changes[change]}, until ${expires_at.slice(0, 10)}.

To trust it:
  Node              export NODE_EXTRA_CA_CERTS=${files.authority}
  Python, OpenSSL   export SSL_CERT_FILE=${files.bundle}
  curl              --cacert ${files.authority}
  this machine      cp ${files.authority} /usr/local/share/ca-certificates/perch.crt && update-ca-certificates
  a browser         import ${files.authority} as an authority for websites
  E2B's SDKs        eval "$(perch e2b env --tls)"

The certificate of the authority:
${authority.trimEnd()}`);
}
