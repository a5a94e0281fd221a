export { adoptBootFiles, type BootFiles } from './boot-files.ts';
export { type BaseTemplate, TemplateStore } from './store.ts';
