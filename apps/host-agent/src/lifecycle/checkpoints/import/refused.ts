/** The content of the directory is whole, and cannot be taken all the same. */
export class ImportRefused extends Error {
  override readonly name = 'ImportRefused';
}
