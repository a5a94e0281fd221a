/** Makes programs of this checkout ready to be run: with all that they import, in a few files. */
export { bundle, compile, type Kind } from './compile.ts';
