export * from "./disk-cache.ts";
