import { defineConfig } from "vitest/config";

export default defineConfig({
  // Tests run from source: packages resolve to their src/, nothing has to be built but the addon.
  resolve: { conditions: ["@wideseek/source"] },
  ssr: { resolve: { conditions: ["@wideseek/source"] } },
  test: {
    include: ["packages/*/src/**/*.test.ts", "test/**/*.test.ts"],
    // The native addon owns threads; a fork per file keeps one file's crash from hiding the others.
    pool: "forks",
    testTimeout: 120_000,
  },
});
