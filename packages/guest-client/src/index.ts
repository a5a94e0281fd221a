/** Client of the guest agent. The guest is hostile: nothing it sends is believed unchecked. */
export { createGuestClient, type GuestClient, type GuestClientOptions } from './client.ts';
export type { FileContent, WriteOptions } from './files/content.ts';
export type { PathOptions } from './files/directory.ts';
export type { GuestCommand, GuestCommandOutput, KeptOutput } from './process/commands.ts';
export type { AttachedProcess, GuestProcess, ProcessEvent, StartOptions } from './process/process.ts';
