export { changedEvaluation, changedSettings } from "./compare.ts";
export * from "./load.ts";
export * from "./schema.ts";
