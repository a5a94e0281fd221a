/** The needs of Perch from a machine, judged once: for the host agent, which goes by it, and for `perch doctor`. */
export { parseCgroupMounts } from './cgroup-mounts.ts';
export { type CgroupHierarchies, type Controller, findCgroups, handOn } from './cgroups.ts';
export { deviceMapperControl, deviceMapperObstacle, loopControl, qcow2Obstacle } from './disks.ts';
export { type FoundFirecracker, findFirecracker } from './firecracker.ts';
export { kvmObstacle } from './kvm.ts';
export { findQemu, qemuProgram } from './qemu.ts';
