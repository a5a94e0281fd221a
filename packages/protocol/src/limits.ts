/** Bounds of one sandbox. The room of a host is checked at admission. */
export const limits = {
  vcpus: { min: 1, max: 16, default: 1 },
  memoryMb: { min: 128, max: 65_536, default: 512 },
  diskMb: { min: 64, max: 65_536, default: 5120 },
  timeoutSec: { min: 1, max: 7 * 24 * 3600, default: 300 },
  metadata: { entries: 64, keyLength: 128, valueLength: 4096 },
  env: { entries: 256, keyLength: 256, valueLength: 32_768 },
  exec: { args: 1024, argLength: 131_072, timeoutSecDefault: 30, timeoutSecMax: 24 * 3600 },
  path: 4096,
  /** Directories in directories, below the one that is packed or unpacked. The guest agent has the same (packer.rs). */
  archive: { depth: 256 },
} as const;
