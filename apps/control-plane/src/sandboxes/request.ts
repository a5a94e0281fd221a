import { type CreateSandbox, limits } from '@perch/protocol';

/** A create with every default filled in. */
export type FullRequest = Required<CreateSandbox>;

export function withDefaults(request: CreateSandbox): FullRequest {
  return {
    template: request.template ?? 'base',
    vcpus: request.vcpus ?? limits.vcpus.default,
    memory_mb: request.memory_mb ?? limits.memoryMb.default,
    disk_mb: request.disk_mb ?? limits.diskMb.default,
    timeout_sec: request.timeout_sec ?? limits.timeoutSec.default,
    timeout_mode: request.timeout_mode ?? 'idle',
    on_timeout: request.on_timeout ?? 'destroy',
    auto_resume: request.auto_resume ?? false,
    metadata: request.metadata ?? {},
    env: request.env ?? {},
  };
}
