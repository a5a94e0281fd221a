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
  /** Rate of the host's time stamp counter, for a machine that boots. */
  tscKhz?: number | undefined;
}

/** Port of the agent, and the lab's address in QEMU's own network. */
const agent = '10.0.2.15:49983';

/** QMP is at standard input and output, the console at descriptor 3, and QEMU chooses a port for the agent. */
export function labArguments(hardware: LabHardware): string[] {
  const { image, disks, memory, tscKhz } = hardware;
  const size = `${recipe.memoryMiB}M`;
  const mapping = memory.kept ? 'share=off,readonly=on,rom=off' : 'share=on';
  return [
    ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none', '-qmp', 'stdio'],
    // Without a PIC and a PIT, since machines with them hang at boot under TCG.
    ...['-M', 'microvm,pic=off,pit=off,rtc=on,memory-backend=mem', '-bios', 'qboot.rom'],
    ...[
      '-object',
      `memory-backend-file,id=mem,size=${size},mem-path=${escaped(memory.path)},${mapping}`,
      '-m',
      size,
    ],
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', String(recipe.cpus)],
    ...['-kernel', image.kernel, '-initrd', image.initramfs, '-append', kernelArguments(tscKhz)],
    ...['-chardev', 'file,id=console,path=/dev/fd/3', '-serial', 'chardev:console'],
    ...disks.flatMap(({ path, format, readOnly = false }, i) => [
      '-drive',
      [
        // The lab is thrown away when the machine fails: nothing has to be on this machine's disk.
        `id=d${i},if=none,format=${format},file=${escaped(path)},cache=unsafe,discard=unmap`,
        ...(readOnly ? ['readonly=on'] : []),
        // QEMU makes a layer of its own in TMPDIR and removes its name at once.
        ...(memory.kept && !readOnly ? ['snapshot=on'] : []),
      ].join(','),
      ...['-device', `virtio-blk-device,drive=d${i}`],
    ]),
    // `restrict=on`: nothing that runs in the lab reaches anything outside.
    ...['-netdev', `user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:0-${agent}`],
    ...['-device', 'virtio-net-device,netdev=n0', '-device', 'virtio-rng-device'],
    ...(memory.kept ? ['-incoming', 'defer', '-S'] : []),
  ];
}

/** A comma in a value of an option. */
const escaped = (path: string) => path.replaceAll(',', ',,');

function kernelArguments(tscKhz: number | undefined): string {
  const rate = tscKhz === undefined ? [] : [`tsc_early_khz=${tscKhz}`];
  // A panic ends the lab, which its watchdog sees.
  const boot = ['console=ttyS0', 'quiet', 'panic=-1', 'reboot=t', 'net.ifnames=0', 'mitigations=off'];
  return [...boot, ...rate, 'tsc=reliable', 'systemd.show_status=0'].join(' ');
}
