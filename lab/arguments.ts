/** The command line of the lab host's QEMU. Source: qemu(1) of QEMU 10.0. */
import type { LabImage } from './image.ts';
import recipe from './recipe.json' with { type: 'json' };

/** A disk of the lab host, in the order of the table: the first is /dev/vda. */
export interface LabDisk {
  path: string;
  format: 'raw' | 'qcow2';
  readOnly?: boolean;
}

export interface LabHardware {
  image: Pick<LabImage, 'kernel' | 'initramfs'>;
  disks: readonly LabDisk[];
  /** Memory: a file that the machine fills, or one that it goes on from and never changes. */
  memory: { path: string; kept: boolean };
  /** Port of this machine's loopback that leads to the lab's agent. */
  port: number;
  /** Rate of the host's time stamp counter. */
  tscKhz: number | undefined;
  /** A file that gets the console. */
  console: string;
}

/** Port of the agent, and the lab's address in QEMU's own network. */
const agent = '10.0.2.15:49983';

export function labArguments(hardware: LabHardware): string[] {
  const { image, disks, memory, port, tscKhz } = hardware;
  const size = `${recipe.memoryMiB}M`;
  const mapping = memory.kept ? 'share=off,readonly=on,rom=off' : 'share=on';
  return [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-qmp', 'stdio'],
    // Without a PIC and a PIT, since machines with them hang at boot under TCG.
    ...['-M', 'microvm,pic=off,pit=off,rtc=on,memory-backend=mem', '-bios', 'qboot.rom'],
    ...['-object', `memory-backend-file,id=mem,size=${size},mem-path=${memory.path},${mapping}`, '-m', size],
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', String(recipe.cpus)],
    ...['-kernel', image.kernel, '-initrd', image.initramfs, '-append', kernelArguments(tscKhz)],
    ...['-chardev', `file,id=console,path=${hardware.console}`, '-serial', 'chardev:console'],
    ...disks.flatMap(({ path, format, readOnly = false }, i) => [
      '-drive',
      // The lab is thrown away when the machine fails: nothing has to be on this machine's disk.
      `id=d${i},if=none,format=${format},file=${path},cache=unsafe,discard=unmap,readonly=${readOnly ? 'on' : 'off'}`,
      ...['-device', `virtio-blk-device,drive=d${i}`],
    ]),
    // `restrict=on`: nothing that runs in the lab reaches anything outside.
    ...['-netdev', `user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:${port}-${agent}`],
    ...['-device', 'virtio-net-device,netdev=n0', '-device', 'virtio-rng-device'],
    ...(memory.kept ? ['-incoming', 'defer', '-S'] : []),
  ];
}

function kernelArguments(tscKhz: number | undefined): string {
  const rate = tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`];
  // A panic ends the lab, which its watchdog sees.
  const boot = ['console=ttyS0', 'quiet', 'panic=-1', 'reboot=t', 'net.ifnames=0', 'mitigations=off'];
  return [...boot, ...rate, 'tsc=reliable', 'systemd.show_status=0'].join(' ');
}
