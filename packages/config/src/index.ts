export * from "./chat-models.ts";
export { changedEvaluation, changedSettings, shrunkEvaluation } from "./compare.ts";
export * from "./load.ts";
export { loadSuite, parseSuite } from "./load-suite.ts";
export * from "./schema.ts";
export type { Suite, SuiteColumn, SuiteModel, SuiteRow } from "./suite-schema.ts";
