/** Tap devices (linux/if_tun.h, Documentation/networking/tuntap.rst). */
import { closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';
import { ioctl } from './ffi.ts';
import { inNamespace } from './netns.ts';

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;

/** Of the calling thread's namespace, 0 when there is none: if_nametoindex(3). */
const ifNameToIndex = koffi.load('libc.so.6').func('unsigned int if_nametoindex(const char *name)');

/** struct ifreq: a name of 16 bytes, then a union of which the flags are the first two. */
const ifreqBytes = 40;
const maxName = 15;

/**
 * Opens a tap device, and makes it where there is none.
 *
 * Privileged: the monitor that uses the device cannot open it, and is given this descriptor instead. The
 * descriptor is non-blocking and close-on-exec; `spawn` with it in `stdio` hands it on.
 * @throws SystemCallError EBUSY when another process has the device open
 */
export function openTap(namespace: string, tap: string): number {
  return inNamespace(namespace, () => attach(tap));
}

/** Makes a tap device that stays when nobody has it open, and that only root can open. */
export function createTap(namespace: string, tap: string): void {
  inNamespace(namespace, () => {
    const fd = attach(tap);
    try {
      ioctl('TUNSETOWNER', fd, TUNSETOWNER, 0);
      ioctl('TUNSETPERSIST', fd, TUNSETPERSIST, 1);
    } finally {
      closeSync(fd);
    }
  });
}

/**
 * Lets a user open a tap device that is there, for a program that opens it by itself: such a program makes one where
 * there is none, if it may.
 * @throws Error when there is none; SystemCallError
 */
export function giveTap(namespace: string, tap: string, uid: number): void {
  inNamespace(namespace, () => {
    if (ifNameToIndex(tap) === 0)
      throw new Error(`There is no tap device ${tap} in the network namespace ${namespace}`);
    const fd = attach(tap);
    try {
      ioctl('TUNSETOWNER', fd, TUNSETOWNER, uid);
    } finally {
      closeSync(fd);
    }
  });
}

/** /dev/net/tun remembers the namespace of the thread that opens it. */
function attach(tap: string): number {
  if (tap.length === 0 || tap.length > maxName) throw new Error(`not a name of a tap device: ${tap}`);
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  try {
    const ifreq = Buffer.alloc(ifreqBytes);
    ifreq.write(tap, 'latin1');
    ifreq.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, maxName + 1);
    ioctl('TUNSETIFF', fd, TUNSETIFF, ifreq);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
