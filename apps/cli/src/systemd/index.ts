/** Perch as units of systemd: their text, their settings, and the calls that start and stop them. */
export { type Environment, formatEnvironment, parseEnvironment } from './environment-file.ts';
export { installed, installedSettings, localEnvironment } from './installed.ts';
export { type Places, places, type UnitName, unitNames } from './places.ts';
export { requireSystemd, stopUnits, systemctl, unitsRun } from './systemctl.ts';
export { startMs } from './time-limits.ts';
export { type UnitsOf, unitTexts } from './units.ts';
