export { OpenApi } from './openapi.ts';
export { renderPage } from './page.ts';
