export * from "./copy-drill.ts";
export * from "./expert.ts";
export * from "./markdown-table.ts";
export * from "./order.ts";
export * from "./questions.ts";
export * from "./random.ts";
export * from "./tasks.ts";
export * from "./world.ts";
