import { defaultDomain, isDomain } from '@perch/protocol';
import { CliError } from '../errors.ts';

/** @throws CliError for what no wildcard can stand before */
export function domainOf(text: string): string {
  const domain = text.toLowerCase();
  if (isDomain(domain)) return domain;
  throw new CliError(
    `${text} is no domain that sandboxes could have names below.`,
    `Write a name with a dot in it, such as ${defaultDomain} or sbx.test.`,
  );
}
