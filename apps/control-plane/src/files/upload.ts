import { type GuestPath, PerchError } from '@perch/protocol';
import type { Static } from 'typebox';
import type { Spool, SpooledFile } from './spool.ts';

/** A part of a multipart upload, as the parser gives it. */
export type UploadPart = {
  fieldname: string;
  /** Content-Transfer-Encoding, in lower case; 7bit where it has none. */
  encoding: string;
} & (
  | { type: 'field'; value: unknown }
  | { type: 'file'; file: AsyncIterable<Buffer> & { resume(): unknown } }
);

/** By RFC 2045, those of content as it is. */
const plainEncodings = ['7bit', '8bit', 'binary', 'identity'];

type Path = Static<typeof GuestPath>;
type Write = (path: Path, data: AsyncIterable<Buffer>) => Promise<void>;

/**
 * Takes an upload of the parts `path` and `file`, in either order. With the path first the contents go straight
 * on; otherwise they wait in the spool.
 */
export async function receiveUpload(
  parts: AsyncIterable<UploadPart>,
  checkPath: (path: unknown) => Path,
  spool: Spool,
  write: Write,
): Promise<void> {
  let path: Path | undefined;
  let spooled: SpooledFile | undefined;
  let written = false;
  try {
    for await (const part of parts) {
      refuseEncoded(part);
      if (part.fieldname === 'path' && part.type === 'field' && path === undefined) {
        path = checkPath(part.value);
      } else if (part.fieldname === 'file' && part.type === 'file' && !spooled && !written) {
        if (path === undefined) spooled = await spool.take(part.file);
        else {
          await write(path, part.file);
          written = true;
        }
      } else {
        throw wrongPart(part);
      }
    }
    if (path === undefined) throw missing('path', 'is required, as a field of the form');
    if (!written && !spooled) throw missing('file', 'is required, as a file of the form');
    if (spooled) await write(path, spooled.stream());
  } finally {
    await spooled?.[Symbol.asyncDispose]();
  }
}

/** @throws PerchError unsupported_media_type, since content is written as it comes */
function refuseEncoded({ fieldname, encoding }: UploadPart): void {
  if (plainEncodings.includes(encoding.trim())) return;
  const [part, shown] = [fieldname.slice(0, 100), encoding.slice(0, 100)];
  const message = `The part ${part} is taken as binary, 8bit or 7bit, and not with the transfer encoding ${shown}.`;
  throw new PerchError('unsupported_media_type', message, { content_type: shown });
}

function wrongPart(part: UploadPart): PerchError {
  const name = part.fieldname.slice(0, 100);
  if (name === 'path') return missing('path', 'must be one field of text');
  if (name === 'file') return missing('file', 'must be one part with a filename');
  return missing(name, 'is unknown: the parts are path and file');
}

function missing(where: string, message: string): PerchError {
  return new PerchError('validation_failed', `${where} ${message}`, { problems: [{ where, message }] });
}
