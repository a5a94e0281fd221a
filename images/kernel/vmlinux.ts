import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { decompressLegacyLz4 } from './lz4.ts';

const HEADER_MAGIC = 'HdrS';
const ELF_MAGIC = 0x464c457f;

/**
 * Takes the uncompressed ELF kernel out of a bzImage, so that no guest spends its boot on decompressing it.
 * Offsets are those of https://docs.kernel.org/arch/x86/boot.html
 * @returns undefined when the image is compressed in a way that Node cannot undo
 */
export function extractVmlinux(bzImage: Buffer): Buffer | undefined {
  if (bzImage.toString('latin1', 0x202, 0x206) !== HEADER_MAGIC) throw new Error('not a bzImage');
  const setupSectors = bzImage.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + bzImage.readUInt32LE(0x248);
  const payload = bzImage.subarray(start, start + bzImage.readUInt32LE(0x24c));
  // The build appends the decompressed size to every format but gzip, which ends in it by itself.
  const size = payload.readUInt32LE(payload.length - 4);
  const vmlinux = decompress(payload, size);
  if (vmlinux !== undefined && vmlinux.readUInt32LE(0) !== ELF_MAGIC)
    throw new Error('the kernel is not an ELF file');
  return vmlinux;
}

function decompress(payload: Buffer, size: number): Buffer | undefined {
  switch (payload.readUInt32LE(0)) {
    case 0x184c2102:
      return decompressLegacyLz4(payload.subarray(0, -4), size);
    case 0xfd2fb528:
      return zstdDecompressSync(payload.subarray(0, -4));
    default:
      return payload.readUInt16BE(0) === 0x1f8b ? gunzipSync(payload) : undefined;
  }
}
