/** Runs tests and benchmarks where nothing that they send leaves the machine, and nothing of them outlives the run. */
export { enclose } from './enclosure.ts';
