/** The parts of a lab, built where they are missing. Needs the package mirrors then. */
import { join, relative } from 'node:path';
import { cacheDir, resolveArtifacts } from '../images/index.ts';
import { labFirecracker } from './firecracker.ts';
import { type LabImage, labImage } from './image.ts';
import { artifactVolume, packageVolume, type Volume } from './volumes.ts';

export const root = join(import.meta.dirname, '..');

export interface LabParts {
  image: LabImage;
  packages: Volume;
  artifacts: Volume;
  /** Paths of guest agent and pager below a cache: in the lab as here. */
  agent: string;
  pager: string;
}

/** @throws BuildError */
export async function labParts(cache: string = cacheDir()): Promise<LabParts> {
  const artifacts = await resolveArtifacts(cache);
  return {
    image: await labImage(root, cache),
    packages: await packageVolume(root, cache),
    artifacts: await artifactVolume(artifacts, await labFirecracker(cache), cache),
    agent: relative(cache, artifacts.guestAgent),
    pager: relative(cache, artifacts.pager),
  };
}
