import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['{apps,packages,images,scripts}/**/*.test.ts'],
    testTimeout: 30_000,
  },
});
