/** What Perch asks of a disk layer. One back end a folder beside this file. */

export interface DiskSpec {
  /** Read-only raw image that the disk starts from; root-owned, 0444, on the file system of `dir`. */
  base: string;
  /** The VM's directory: the layer keeps its files there. */
  dir: string;
  /** Owner of the copy-on-write layer. */
  uid: number;
  /**
   * Copy-on-write layers between the base and the new one, the lowest first: files of snapshots, root-owned,
   * 0444, on the file system of `dir`.
   */
  lower?: readonly string[];
  /** Size that the guest sees and its quota on the host, bytes; at least the size of the base. */
  sizeBytes: number;
}

/** What the monitor opens. All paths are inside the VM's directory. */
export interface Disk {
  /** The layer that the guest writes to: absolute. */
  path: string;
  format: 'qcow2' | 'raw';
  /** Raw image below a qcow2 layer. The monitor is told so explicitly, and believes no header. */
  base?: string;
  /** Layers between the two, the lowest first. */
  lower: readonly string[];
  /** The largest that the file at `path` can become, bytes: the monitor's file size limit. */
  maxFileBytes: number;
}

export interface LayerFile {
  /** Absolute. */
  path: string;
  /** Of its file, which may have names elsewhere. */
  inode: number;
}

/** Layers that are put together in a directory of its own. */
export interface LayersSpec {
  /** An empty directory of `uid`, on the file system of all files. What is made in it is the caller's to remove. */
  dir: string;
  /** A user that owns nothing else. */
  uid: number;
  /** Image below all layers, and the layers from the lowest up: root-owned, 0444. */
  base: string;
  layers: readonly string[];
  /** Size that the guest sees. */
  sizeBytes: number;
  timeoutMs: number;
  signal?: AbortSignal;
}

/** A tool could not be ended, as one that waits for a broken disk: nobody else may be its user meanwhile. */
export class UserStillRuns extends Error {
  override readonly name = 'UserStillRuns';
  readonly uid: number;

  constructor(uid: number, options: { cause: unknown }) {
    super(`A tool of the user ${uid} has been killed and does not end.`, options);
    this.uid = uid;
  }
}

export interface DiskLayer {
  readonly kind: 'qcow2';
  /**
   * Makes an empty copy-on-write layer. Never touches one that exists: that is an error.
   * When it rejects it has removed what it made.
   */
  create(spec: DiskSpec): Promise<Disk>;
  /** The layer made earlier for the same spec, as after a restart. @throws when it is not there. */
  open(spec: DiskSpec): Promise<Disk>;
  /**
   * Makes an empty layer beside the one that the guest writes to, for the monitor to go on with.
   * @returns its path
   * @throws Error when the disk may get no more, see `fullBy`
   */
  add(spec: Pick<DiskSpec, 'dir' | 'uid' | 'sizeBytes'>): Promise<string>;
  /**
   * Why a disk of `sizeBytes` may get no layer on top of these before they are merged, for the end of a sentence;
   * undefined when it may. With it a disk has at most so many layers, and they occupy at most so much.
   */
  fullBy(layers: readonly string[], sizeBytes: number): Promise<string | undefined>;
  /** The layers that were made in the VM's directory, in their order. One that was never used is empty. */
  layers(spec: Pick<DiskSpec, 'dir'>): Promise<LayerFile[]>;
  /** What the layer that was made last occupies, bytes: of a disk that nobody copies, the guest's writes. 0 without. */
  writtenBytes(spec: Pick<DiskSpec, 'dir'>): Promise<number>;
  /**
   * Puts a layer, as it is now, on disk and gives it a second name at `target`. The guest must be stopped, or
   * write to another layer, and its monitor have written out everything.
   * @throws when the layer is not the file that was made, which a monitor could have changed for another
   */
  capture(spec: Pick<DiskSpec, 'uid'>, layer: string, target: string): Promise<void>;
  /** Makes a captured layer what a base of others must be: root's, and never written again. Safe to repeat. */
  seal(target: string): Promise<void>;
  /**
   * Merges a base and layers into a raw image of its own.
   * @returns its path, in `dir`; root-owned, 0444, synced
   * @throws UserStillRuns
   */
  flatten(spec: LayersSpec): Promise<string>;
  /** Merges layers into one over the same base. @returns and @throws as `flatten` */
  merge(spec: LayersSpec): Promise<string>;
  /** The link of the base image in a VM's directory. */
  base(dir: string): string;
  /** Removes the layers; no error when there is none. The monitor must be gone. */
  remove(spec: Pick<DiskSpec, 'dir'>): Promise<void>;
}
