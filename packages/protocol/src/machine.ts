/** The machine of a host: the means by which it runs guests. A state goes on only where all of it is the same. */
import { type Static, Type } from 'typebox';

const closed = { additionalProperties: false } as const;

export const MonitorKind = Type.Union([Type.Literal('qemu'), Type.Literal('firecracker')]);
export type MonitorKind = Static<typeof MonitorKind>;

/** The means by which the guest's instructions are executed. */
export const Accelerator = Type.Union([Type.Literal('kvm'), Type.Literal('tcg')]);
export type Accelerator = Static<typeof Accelerator>;

export const MonitorIdentity = Type.Object(
  {
    kind: MonitorKind,
    version: Type.String({ minLength: 1, maxLength: 255 }),
    accelerator: Accelerator,
    state_format: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 255,
        description:
          'Version of the format of its device states, of a monitor that counts those apart from its own.',
      }),
    ),
  },
  closed,
);
export type MonitorIdentity = Static<typeof MonitorIdentity>;

/** By the value of `PERCH_VMM`: those that this Perch can run guests with. */
export const monitorChoices = {
  'qemu-kvm': { kind: 'qemu', accelerator: 'kvm' },
  'qemu-tcg': { kind: 'qemu', accelerator: 'tcg' },
  firecracker: { kind: 'firecracker', accelerator: 'kvm' },
} as const satisfies Record<string, Pick<MonitorIdentity, 'kind' | 'accelerator'>>;
export type MonitorChoice = keyof typeof monitorChoices;

export const LayerFormat = Type.Union([Type.Literal('dm-snapshot'), Type.Literal('qcow2')]);
export type LayerFormat = Static<typeof LayerFormat>;

/** Of a disk: `image` where one file is all of it. */
export const DiskFormat = Type.Union([...LayerFormat.anyOf, Type.Literal('image')]);
export type DiskFormat = Static<typeof DiskFormat>;

export const HostMachine = Type.Object({
  monitor: Type.Object({ ...MonitorIdentity.properties, version: Type.String({ description: 'Or empty.' }) }),
  cpu: Type.String({ description: 'Fingerprint of the processor that guests see.' }),
  disk: Type.Object({ format: LayerFormat }),
});
export type HostMachine = Static<typeof HostMachine>;
