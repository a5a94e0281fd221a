/** What Perch asks of a disk layer. One back end a folder beside this file. */

export interface DiskSpec {
  /** Read-only raw image that the disk starts from; root-owned, 0444. */
  base: string;
  /** The VM's directory: the layer keeps its file there. */
  dir: string;
  /** Owner of the copy-on-write layer. */
  uid: number;
  /** Size that the guest sees and its quota on the host, bytes; at least the size of the base. */
  sizeBytes: number;
}

export interface Disk {
  /** What the monitor opens. */
  path: string;
  format: 'qcow2' | 'raw';
}

export interface DiskLayer {
  readonly kind: 'qcow2';
  /** Makes an empty copy-on-write layer. Never touches one that exists: that is an error. */
  create(spec: DiskSpec): Promise<Disk>;
  /** The layer made earlier for the same spec, as after a restart. */
  open(spec: DiskSpec): Promise<Disk>;
  /** Removes the layer; no error when there is none. The monitor must be gone. */
  remove(spec: Pick<DiskSpec, 'dir'>): Promise<void>;
  /** Bytes that the layer occupies on the host. */
  occupied(spec: Pick<DiskSpec, 'dir'>): Promise<number>;
}
