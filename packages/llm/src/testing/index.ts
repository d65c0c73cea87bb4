export * from "./scripted-chat-model.ts";
export * from "./scripted-server.ts";
