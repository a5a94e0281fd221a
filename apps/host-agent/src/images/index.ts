export { adoptBootFiles, type BootFiles } from './boot-files.ts';
export { hasContent, imageIdOf } from './content.ts';
export { type BaseImage, ImageStore } from './store.ts';
