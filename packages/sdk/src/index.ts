/** The public TypeScript client of Perch. */
export {
  type Checkpoint,
  type Command,
  type CommandWithOutput,
  type CreateSandbox,
  type ErrorCode,
  type ExecRequest,
  type ExecResult,
  type FileChange,
  type FileEntry,
  type FileList,
  type ForkResults,
  isPerchError,
  PerchError,
  type PinReady,
  type ReadyGuests,
  type Sandbox,
  type SandboxHistory,
  type SandboxPort,
  type SandboxPorts,
  type SandboxTransition,
  type SignalName,
  type Snapshot,
} from '@perch/protocol';
export type { Source } from './bytes.ts';
export type { CommandFilter, Commands } from './commands.ts';
export { type Config, configFile, defaultUrl, resolveConfig } from './config.ts';
export { ConfigError, ConnectionError, UnexpectedAnswerError } from './errors.ts';
export type { ExecEvent, ExecStart, ExecStream } from './exec/stream.ts';
export type { Download, FilePage, Files, WriteOptions } from './files.ts';
export type { PerchOptions, RequestOptions } from './http.ts';
export { Perch } from './perch.ts';
export type { PortStream } from './port-stream.ts';
export type { PortFilter, Ports } from './ports.ts';
export type { CreateOptions, ListFilter, Sandboxes } from './sandboxes.ts';
export type { SnapshotFilter, SnapshotOptions, Snapshots } from './snapshots.ts';
export type { Templates } from './templates.ts';
export type { FileWatch, WatchOptions } from './watch.ts';
