/** `perch cp`: one file, either way. */
export { copy } from './copy.ts';
export { parsePlace } from './place.ts';
