/** Names of devices, which tell their instance and what they are for. */

/** The beginning of all names of an instance; the id of a VM follows. */
export const prefixOf = (instance: string) => `perch-${instance}-`;

export const vmDevice = (instance: string, id: string) => `${prefixOf(instance)}${id}`;

/** Device and inode of the image and sectors of the device follow. No id of a VM has a point. */
export const basePrefix = (instance: string) => `${prefixOf(instance)}base.`;
