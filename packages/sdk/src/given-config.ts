/** As much of where Perch is as one place says. */
export interface GivenConfig {
  url?: string | undefined;
  apiKey?: string | undefined;
}
