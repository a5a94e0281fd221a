export { adoptBootFiles, adoptProgram, type BootFiles } from './boot-files.ts';
export { hasContent, imageIdOf, noteContent } from './content.ts';
export { type BaseImage, ImageStore } from './store.ts';
