/** What several programs need of Node and Linux, and no one of them owns. Imports nothing of ours. */
export { printable, quoted } from './printable.ts';
