export interface Page {
  html: string;
  /** Allows this page's own style and script and nothing else. */
  contentSecurityPolicy: string;
}
