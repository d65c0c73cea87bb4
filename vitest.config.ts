import { defineConfig } from "vitest/config";

const jsonReport = process.env.WIDESEEK_VITEST_JSON;

export default defineConfig({
  // Tests run from source: packages resolve to their src/, nothing has to be built but the addon.
  resolve: { conditions: ["@wideseek/source"] },
  ssr: { resolve: { conditions: ["@wideseek/source"] } },
  test: {
    include: ["packages/*/src/**/*.test.ts", "test/**/*.test.ts", "benchmarks/**/*.test.ts"],
    // The native addon owns threads; a fork per file keeps one file's crash from hiding the others.
    pool: "forks",
    testTimeout: 120_000,
    // Hooks build indexes and start servers: on a busy machine they take as long as tests.
    hookTimeout: 120_000,
    // .ci/run counts tests from the JSON file.
    reporters: jsonReport === undefined ? ["default"] : ["default", ["json", { outputFile: jsonReport }]],
  },
});
