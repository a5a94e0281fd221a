export { OpenApi, type RouteSchema } from './openapi.ts';
export { type Page, renderPage } from './page.ts';
