/** The log of perchd: lines of JSON on standard output. */
import { type Logger, pino } from 'pino';
import { PatientLines } from './patient-lines.ts';

/** A process that ends by `process.exit` writes all of it; one that is killed may lack its last requests. */
export function createLog(level = 'info'): Logger {
  const lines = new PatientLines(pino.destination({ fd: 1, sync: true }));
  process.once('exit', () => lines.flush());
  return pino({ level, base: { program: 'perchd' } }, lines);
}
