/** `perch doctor`: what Perch needs, what is there, and what to do about the rest. */
export { type Finding, findings } from './findings.ts';
