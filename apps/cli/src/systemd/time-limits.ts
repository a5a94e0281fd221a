/** How long a daemon may take, ms, whoever starts and stops it. */

/** Until it answers: a disk of another machine, or emulation, takes its time. */
export const startMs = 900_000;
export const stopMs = 60_000;
