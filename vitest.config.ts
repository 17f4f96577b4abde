import { defineConfig } from "vitest/config";

// Integration tests start real clusters on two shared cores: one file at a time keeps their timings meaningful.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    fileParallelism: false,
    testTimeout: 20_000,
    hookTimeout: 120_000,
  },
});
