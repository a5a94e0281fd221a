export { ActivityTracker } from './activity.ts';
export { decodeCursor, encodeCursor } from './cursor.ts';
export { Idempotency } from './idempotency.ts';
export type { Life } from './life.ts';
export { pinReady } from './ready-pins.ts';
export { SandboxRepository } from './repository.ts';
export type { EdgeSettings } from './request.ts';
export { SandboxService } from './service.ts';
export type { LastCommand } from './time-up.ts';
