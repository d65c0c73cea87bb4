export * from "./batch.ts";
export * from "./edit-distance.ts";
export * from "./episode.ts";
export * from "./errors.ts";
export * from "./policy.ts";
export * from "./reward.ts";
export * from "./task.ts";
export * from "./tool.ts";
