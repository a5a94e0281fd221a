/** The sources of a sandbox: an image by way of a guest that was booted from it, or a snapshot. */
import { stat } from 'node:fs/promises';
import { type HostCreate, isPerchError, PerchError, type Snapshot as SnapshotView } from '@perch/protocol';
import { type DiskBackend, isOfOtherKind } from '../../disk/index.ts';
import type { BaseImage, BootFiles, ImageStore } from '../../images/index.ts';
import { hasMemory, type Snapshot, type SnapshotDirectory } from '../../snapshot/index.ts';
import {
  type Conversions,
  diskOf,
  type SavedState,
  type SnapshotStore,
  type StateStore,
} from '../checkpoints/index.ts';
import type { StartFiles } from '../sandbox/index.ts';
import { aborted } from './aborted.ts';
import type { BootGuest, BootSnapshots, GuestShape } from './boot-snapshots.ts';

export interface Source extends StartFiles {
  shape: GuestShape;
  /** How guests of it may stand ready; undefined when they may not. */
  ready: ReadyAhead | undefined;
}

export interface ReadyAhead {
  /** The content of the source, which tells it from others of its name. */
  content: string;
  /** Whether a guest may run before anybody has asked for it. In that of a snapshot a user's processes would go on. */
  mayRun: boolean;
}

export interface SourceDeps {
  disks: Pick<DiskBackend, 'capabilities'>;
  images: ImageStore;
  bootSnapshots: Pick<BootSnapshots, 'use'>;
  snapshots: SnapshotStore;
  saved: StateStore;
  boot: BootFiles;
}

type Machine = Pick<GuestShape, 'vcpus' | 'memory_mb' | 'disk_mb'>;
/** Boots a guest of an image, and has `keep` take its snapshot. */
export type BootImage = (
  image: BaseImage,
  shape: GuestShape,
  keep: Parameters<BootGuest>[1],
) => Promise<void>;

export class Sources {
  readonly #deps: SourceDeps;
  readonly #conversions: Pick<Conversions, 'run'>;
  readonly #boot: BootImage;

  constructor(deps: SourceDeps, conversions: Pick<Conversions, 'run'>, boot: BootImage) {
    this.#deps = deps;
    this.#conversions = conversions;
    this.#boot = boot;
  }

  /** @throws PerchError template_not_found, image_damaged, disk_too_small, shape_mismatch, snapshot_damaged */
  async find(request: Pick<HostCreate, 'template'> & Machine): Promise<Source> {
    const { images, snapshots } = this.#deps;
    const image = images.find(request.template);
    if (image) {
      await images.assertWhole(image);
      return this.#image(image, request);
    }
    try {
      return await snapshots.use(request.template, async (snapshot) => {
        const source = this.#snapshot(request.template, snapshot);
        assertShape(request, source.shape);
        return source;
      });
    } catch (cause) {
      if (!isPerchError(cause, 'snapshot_not_found')) throw cause;
      const { template } = request;
      throw new PerchError('template_not_found', `There is no template ${template}.`, { template });
    }
  }

  /** Images and snapshots, by name. */
  async list(): Promise<SnapshotView[]> {
    const all = await Promise.all(this.#deps.images.all().map(describeImage));
    return [...all, ...(await this.#deps.snapshots.list())].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws PerchError snapshot_not_found */
  async describe(name: string): Promise<SnapshotView> {
    const image = this.#deps.images.find(name);
    return image ? describeImage(image) : this.#deps.snapshots.get(name);
  }

  #image(image: BaseImage, machine: Machine): Source {
    const minimum_mb = Math.ceil(image.sizeBytes / 2 ** 20);
    const { vcpus, memory_mb, disk_mb } = machine;
    if (disk_mb < minimum_mb) {
      throw new PerchError(
        'disk_too_small',
        `The template ${image.name} needs a disk of ${minimum_mb} MiB or more, and disk_mb is ${disk_mb}.`,
        { disk_mb, minimum_mb },
      );
    }
    const { bootSnapshots, saved, boot } = this.#deps;
    const { kernelId: kernel, initramfsId: initramfs } = boot;
    const shape = { base: image.contentId, kernel, initramfs, vcpus, memory_mb, disk_mb };
    return {
      shape,
      ready: { content: image.contentId, mayRun: true },
      begin: (id, signal) =>
        bootSnapshots.use(
          shape,
          (_, keep) => this.#boot(image, shape, keep),
          (snapshot) => saved.linkStart(id, snapshot),
          signal,
        ),
    };
  }

  #snapshot(name: string, snapshot: Snapshot): Source {
    return {
      shape: shapeOf(snapshot),
      // A guest of one without memory would have to run before it is anybody's, and has its environment from there.
      ready: hasMemory(snapshot.manifest)
        ? { content: snapshot.manifest.build_id, mayRun: false }
        : undefined,
      begin: async (id, signal) => {
        // Its format is looked at anew each time: the name may be of other layers by now.
        for (;;) {
          const state = await this.#linked(name, id, signal);
          if (state) return state;
          await Promise.race([this.#convert(name), aborted(signal)]);
        }
      },
    };
  }

  /** @returns undefined, without a link, when its layers have to be converted first */
  #linked(name: string, id: string, signal: AbortSignal): Promise<SavedState | undefined> {
    const { snapshots, saved, disks } = this.#deps;
    return snapshots.use(name, async (snapshot) => {
      signal.throwIfAborted();
      if (isOfOtherKind(diskOf(snapshot), disks)) return undefined;
      return saved.linkStart(id, snapshot);
    });
  }

  /** For all who start from it by now: each alone would have to convert what it started from. */
  async #convert(name: string): Promise<void> {
    try {
      await this.#conversions.run(name, this.#deps.disks.capabilities.format);
    } catch (cause) {
      // Another has its name by now, and is gone on from.
      if (!isPerchError(cause, 'snapshot_in_use')) throw cause;
    }
  }
}

/** A source that only the caller knows. */
export function sourceOf(of: GuestShape, directory: SnapshotDirectory, saved: StateStore): Source {
  const { base, kernel, initramfs, vcpus, memory_mb, disk_mb } = of;
  const shape = { base, kernel, initramfs, vcpus, memory_mb, disk_mb };
  return { shape, ready: undefined, begin: (id) => saved.linkStart(id, directory) };
}

function shapeOf({ manifest, rootfs }: Snapshot): GuestShape {
  const { machine, kernel_content_id: kernel, initramfs_content_id: initramfs } = manifest;
  const base = rootfs?.base_content_id ?? manifest.rootfs_content_id ?? '';
  return { base, kernel, initramfs, ...machine };
}

function assertShape(request: Pick<HostCreate, 'template'> & Machine, shape: Machine): void {
  const { template } = request;
  const { vcpus, memory_mb, disk_mb } = shape;
  if (request.vcpus === vcpus && request.memory_mb === memory_mb && request.disk_mb === disk_mb) return;
  throw new PerchError(
    'shape_mismatch',
    `The snapshot ${template} is of a machine with ${vcpus} vcpus, ${memory_mb} MiB of memory and ${disk_mb} MiB of disk.`,
    { template, vcpus, memory_mb, disk_mb },
  );
}

async function describeImage({ name, rootfs, sizeBytes }: BaseImage): Promise<SnapshotView> {
  const { blocks, mtime } = await stat(rootfs);
  const bytes = blocks * 512;
  return {
    ...{ name, type: 'base', template: name, vcpus: null, memory_mb: null },
    disk_mb: Math.ceil(sizeBytes / 2 ** 20),
    ...{ size_bytes: bytes, own_bytes: bytes, shared_bytes: 0, standalone: true, disk_format: 'image' },
    memory: false,
    sandbox_id: null,
    created_at: mtime.toISOString(),
  };
}
