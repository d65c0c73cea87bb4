export * from "./cached-chat-model.ts";
export * from "./openai-chat-model.ts";
export * from "./options.ts";
