export { OpenApi } from './openapi.ts';
export { renderPage, renderStartPage } from './page.ts';
