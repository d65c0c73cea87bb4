// What the command line needs beside the public face.
export { boundsMeaning, boundsText, isShown } from "@wideseek/eval";
export { atBoundary, errorMessage, makeFolder } from "@wideseek/spec";
export { type EmbeddedWorldFiles, embeddedWorld } from "./embedded-world.ts";
export {
  type IndexCorpusOptions,
  type IndexCorpusReport,
  type IndexProgress,
  indexCorpus,
  loadRetrievalService,
  startRetrievalService,
} from "./retrieval-service.ts";
