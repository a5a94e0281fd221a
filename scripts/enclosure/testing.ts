/** `node testing.ts COMMAND [ARG]...`: runs a command in an enclosure, and nothing more. */
import { runEnclosed } from './enclosure.ts';

process.exit(await runEnclosed(process.argv.slice(2)));
