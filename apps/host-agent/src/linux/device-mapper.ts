/** Device-mapper: block devices made of others (linux/dm-ioctl.h). */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { deviceMapperControl, hasCode } from '@perch/node-kit';
import { type DeviceNumber, numberOfDevice } from './device-node.ts';
import { ioctl } from './ffi.ts';

/** Numbers of commands. */
const command = {
  listDevices: 2,
  create: 3,
  remove: 4,
  suspend: 6,
  status: 7,
  loadTable: 9,
  tableStatus: 12,
  targetVersion: 17,
} as const;
type Command = keyof typeof command;

/** struct dm_ioctl */
const header = {
  dataSize: 12,
  dataStart: 16,
  targetCount: 20,
  openCount: 24,
  flags: 28,
  eventNumber: 32,
  device: 40,
  name: 48,
  nameBytes: 128,
  uuid: 176,
  uuidBytes: 129,
  bytes: 312,
} as const;
/** struct dm_target_spec, behind which its parameters follow. */
const target = { start: 0, length: 8, next: 20, type: 24, typeBytes: 16, bytes: 40 } as const;
/** struct dm_name_list */
const listed = { device: 0, next: 8, name: 12 } as const;

const DM_READONLY_FLAG = 1 << 0;
const DM_STATUS_TABLE_FLAG = 1 << 4;
const DM_ACTIVE_PRESENT_FLAG = 1 << 5;
const DM_BUFFER_FULL_FLAG = 1 << 8;

/**
 * Tells the rules of udev, where there are any, to leave the device alone: they would have root parse what a guest has
 * written. DM_UDEV_DISABLE_{SUBSYSTEM,DISK,OTHER}_RULES_FLAG of libdevmapper, in the upper half of its cookie.
 */
const leaveAlone = ((0x2 | 0x4 | 0x8) << 16) >>> 0;

/** Answers that need more are asked for again. */
const answerBytes = 16 * 1024;
const mostAnswerBytes = 16 * 2 ** 20;

/** A part of a device, in sectors of 512 bytes. */
export interface DmTarget {
  start: number;
  length: number;
  type: string;
  /** Parameters of the target, or its state. */
  params: string;
}

export interface DmDevice {
  device: DeviceNumber;
  /** How many have it open, devices that are made of it too. */
  openCount: number;
  /** Whether it has a table, and so can be read. */
  isActive: boolean;
}

/**
 * Makes a device by its targets, or nothing.
 *
 * Privileged: it reaches what its targets name, whoever may open that.
 * @throws SystemCallError EBUSY when there is one of this name; whatever the target has against its parameters
 */
export function createDmDevice(
  name: string,
  targets: readonly DmTarget[],
  { readOnly }: { readOnly: boolean },
): DeviceNumber {
  const made = send('create', { name, uuid: `PERCH-${name}` });
  try {
    const data = Buffer.concat(targets.map(encodeTarget));
    const flags = readOnly ? DM_READONLY_FLAG : 0;
    send('loadTable', { name, flags, data, targetCount: targets.length });
    // Without the flag that means to suspend it this lets the table begin.
    send('suspend', { name, event: leaveAlone });
  } catch (error) {
    try {
      send('remove', { name });
    } catch (left) {
      throw new AggregateError([error, left], `The device ${name} was not made whole, and is left`);
    }
    throw error;
  }
  return numberOfDevice(made.readBigUInt64LE(header.device));
}

function encodeTarget({ start, length, type, params }: DmTarget): Buffer {
  const text = Buffer.from(`${params}\0`, 'latin1');
  const bytes = Buffer.alloc(Math.ceil((target.bytes + text.length) / 8) * 8);
  bytes.writeBigUInt64LE(BigInt(start), target.start);
  bytes.writeBigUInt64LE(BigInt(length), target.length);
  bytes.writeUInt32LE(bytes.length, target.next);
  bytes.write(type, target.type, target.typeBytes - 1, 'latin1');
  text.copy(bytes, target.bytes);
  return bytes;
}

/** @returns false when there is none @throws SystemCallError EBUSY while somebody has it open */
export function removeDmDevice(name: string): boolean {
  return ifThere(() => send('remove', { name, event: leaveAlone })) !== undefined;
}

/** @returns undefined when there is none */
export function findDmDevice(name: string): DmDevice | undefined {
  const answer = ifThere(() => send('status', { name }));
  return (
    answer && {
      device: numberOfDevice(answer.readBigUInt64LE(header.device)),
      openCount: answer.readInt32LE(header.openCount),
      isActive: (answer.readUInt32LE(header.flags) & DM_ACTIVE_PRESENT_FLAG) !== 0,
    }
  );
}

/**
 * The targets of a device, from the first sector on.
 * @param kind with the parameters that they were made with, or with their state
 * @returns undefined when there is no such device
 */
export function dmTargets(name: string, kind: 'table' | 'state'): DmTarget[] | undefined {
  const flags = kind === 'table' ? DM_STATUS_TABLE_FLAG : 0;
  const answer = ifThere(() => send('tableStatus', { name, flags }));
  if (!answer) return undefined;
  const start = answer.readUInt32LE(header.dataStart);
  const targets: DmTarget[] = [];
  for (let at = start, left = answer.readUInt32LE(header.targetCount); left > 0; left--) {
    targets.push({
      start: Number(answer.readBigUInt64LE(at + target.start)),
      length: Number(answer.readBigUInt64LE(at + target.length)),
      type: textAt(answer, at + target.type),
      params: textAt(answer, at + target.bytes),
    });
    at = start + answer.readUInt32LE(at + target.next);
  }
  return targets;
}

/** Whether the kernel has it by now: to open its control may load its module. */
export function isDmLoaded(): boolean {
  return existsSync('/sys/class/misc/device-mapper') && existsSync(deviceMapperControl);
}

/** Names of all devices of this machine. */
export function dmNames(): string[] {
  const answer = send('listDevices', {});
  const names: string[] = [];
  for (let at = answer.readUInt32LE(header.dataStart), next = -1; next !== 0; at += next) {
    // A list without an entry has one of zeros.
    if (answer.readBigUInt64LE(at + listed.device) === 0n) break;
    names.push(textAt(answer, at + listed.name));
    next = answer.readUInt32LE(at + listed.next);
  }
  return names;
}

/** Whether the kernel has a kind of target, or finds a module that has. @throws when it cannot be asked */
export function hasDmTarget(type: string): boolean {
  try {
    send('targetVersion', { name: type });
    return true;
  } catch (error) {
    if (hasCode(error, 'EINVAL')) return false;
    throw error;
  }
}

interface Message {
  name?: string;
  uuid?: string;
  flags?: number;
  event?: number;
  targetCount?: number;
  data?: Buffer;
}

/** @returns the kernel's answer, all of it */
function send(name: Command, message: Message): Buffer {
  const fd = openSync(deviceMapperControl, constants.O_RDWR);
  try {
    for (let room = answerBytes; ; room *= 8) {
      const bytes = encode(message, room);
      ioctl(`device-mapper ${name}`, fd, requestOf(name), bytes);
      if ((bytes.readUInt32LE(header.flags) & DM_BUFFER_FULL_FLAG) === 0) return bytes;
      if (room >= mostAnswerBytes) throw new Error(`device-mapper ${name} answers more than ${room} bytes`);
    }
  } finally {
    closeSync(fd);
  }
}

/** _IOWR(0xfd, number, struct dm_ioctl) */
function requestOf(name: Command): number {
  return (0xc0000000 | (header.bytes << 16) | (0xfd << 8) | command[name]) >>> 0;
}

function encode(message: Message, room: number): Buffer {
  const { name = '', uuid = '', flags = 0, event = 0, targetCount = 0, data = Buffer.alloc(0) } = message;
  if (name.length >= header.nameBytes || uuid.length >= header.uuidBytes) {
    throw new RangeError(`${name} is too long for the name of a device`);
  }
  const bytes = Buffer.alloc(header.bytes + Math.max(room, data.length));
  // The interface of version 4, which every kernel of this century has.
  bytes.writeUInt32LE(4, 0);
  bytes.writeUInt32LE(bytes.length, header.dataSize);
  bytes.writeUInt32LE(header.bytes, header.dataStart);
  bytes.writeUInt32LE(targetCount, header.targetCount);
  bytes.writeUInt32LE(flags, header.flags);
  bytes.writeUInt32LE(event, header.eventNumber);
  bytes.write(name, header.name, 'latin1');
  bytes.write(uuid, header.uuid, 'latin1');
  data.copy(bytes, header.bytes);
  return bytes;
}

function textAt(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, bytes.indexOf(0, at));
}

function ifThere<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if (hasCode(error, 'ENXIO')) return undefined;
    throw error;
  }
}
