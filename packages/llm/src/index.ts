export * from "./cached-chat-model.ts";
export * from "./circuit-breaker.ts";
export * from "./openai-chat-model.ts";
export * from "./options.ts";
export * from "./reply-cache.ts";
export type { ClientTiming } from "./timing.ts";
