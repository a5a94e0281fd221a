/** `perch cp`: a file, or a directory with all that is below, either way. */
export { copy } from './copy.ts';
export { Notices } from './notices.ts';
export { parsePlace } from './place.ts';
