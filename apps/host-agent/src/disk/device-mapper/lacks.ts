import { deviceMapperObstacle } from '@perch/node-kit';
import { hasDmTarget } from '../../linux/index.ts';

/** The things that this machine lacks for disks of device-mapper. */
export const deviceMapperLacks = () => deviceMapperObstacle(hasDmTarget);
