/** What Perch asks of a disk layer. One back end a folder beside this file. */

export interface DiskSpec {
  /** Read-only raw image that the disk starts from; root-owned, 0444, on the file system of `dir`. */
  base: string;
  /** The VM's directory: the layer keeps its files there. */
  dir: string;
  /** Owner of the copy-on-write layer. */
  uid: number;
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
  /** The largest that the file at `path` can become, bytes: the monitor's file size limit. */
  maxFileBytes: number;
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
  /** Removes the layer; no error when there is none. The monitor must be gone. */
  remove(spec: Pick<DiskSpec, 'dir'>): Promise<void>;
  /** Bytes that the layer occupies on the host, without the base that it shares; 0 when there is none. */
  occupied(spec: Pick<DiskSpec, 'dir'>): Promise<number>;
}
