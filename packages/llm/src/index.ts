export * from "./circuit-breaker.ts";
export * from "./openai-chat-model.ts";
export * from "./options.ts";
export type { ClientTiming } from "./timing.ts";
