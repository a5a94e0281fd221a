/** Reads JSON of a known shape. */
import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { SnapshotDamaged } from './damaged.ts';

/**
 * A reader of one kind of file.
 * @param file name for the error
 * @returns a function that gives the value, or throws SnapshotDamaged
 */
export function jsonReader<T extends TSchema>(schema: T, file: string): (bytes: Buffer) => Static<T> {
  const validator = Compile(schema);
  return (bytes) => {
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (cause) {
      throw new SnapshotDamaged(file, 'is not JSON', { cause });
    }
    if (validator.Check(value)) return value;
    const problem = validator.Errors(value)[0];
    throw new SnapshotDamaged(
      file,
      `is not what it should be at ${problem?.instancePath || '/'}: ${problem?.message}`,
    );
  };
}
