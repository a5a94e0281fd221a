export { adoptBootFiles, type BootFiles } from './boot-files.ts';
export { type BaseImage, ImageStore } from './store.ts';
