// What tests and benchmarks need beside the public face.
export * from "./loopback-qdrant.ts";
