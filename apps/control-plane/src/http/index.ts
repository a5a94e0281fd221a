export { addAccess, callerOn, type Gate } from './access.ts';
export { clientGone } from './client-gone.ts';
export { isGzip, refuseEncoding } from './content-encoding.ts';
export { sendError, toPerchError, unsupportedMediaType } from './errors.ts';
export { Limits } from './limits.ts';
export { pageByName } from './name-page.ts';
export { requestId } from './request-id.ts';
export { createServer, type Front, type Interceptor } from './server.ts';
export type { Services } from './services.ts';
