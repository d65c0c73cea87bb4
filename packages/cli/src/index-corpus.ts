// `index`: a corpus into a search index, and into a Qdrant collection. Owns flags and the progress line.
import { type IndexProgress, indexCorpus } from "@wideseek/core/tooling";
import { Command, InvalidArgumentError } from "commander";
import { ProgressLine } from "./progress-line.ts";
import { stopOnSignal } from "./stop.ts";

interface IndexFlags {
  pages: string[];
  words: boolean;
  qdrant?: string;
  collection?: string;
  encoder?: string;
  encoderModel?: string;
}

const stageNames: Readonly<Record<IndexProgress["stage"], string>> = {
  read: "reading",
  addresses: "sorting addresses",
  words: "indexing words",
  merge: "joining",
  vectors: "embedding",
};

export function indexCommand(): Command {
  const collect = (value: string, previous: string[]): string[] => [...previous, value];
  return new Command("index")
    .description("index a corpus for `tools serve`; run again after a stop, it goes on where it was")
    .argument("<dir>", "folder of the index")
    .argument("<corpus...>", "files of passages: .jsonl, .jsonl.gz or .parquet, records with url and contents")
    .option("--pages <file>", "whole pages for access; may be repeated; left out, access joins passages", collect, [])
    .option("--no-words", "no word index, only vectors")
    .option("--qdrant <url>", "also fill a collection of this Qdrant (key from QDRANT_API_KEY)")
    .option("--collection <name>", "with --qdrant: name of the collection")
    .option("--encoder <dir>", "with --qdrant: folder of the E5 encoder, tokenizer.json and model.onnx")
    .option("--encoder-model <file>", "with --encoder: the ONNX file in that folder")
    .action(async (directory: string, passages: string[], flags: IndexFlags) => {
      const { pages, words, qdrant, collection, encoder, encoderModel } = flags;
      if ((qdrant === undefined) !== (encoder === undefined)) {
        throw new InvalidArgumentError("--qdrant and --encoder go together");
      }
      if (!words && qdrant === undefined)
        throw new InvalidArgumentError("--no-words leaves nothing to do; add --qdrant");
      using stop = stopOnSignal();
      using line = new ProgressLine(process.stderr);
      const vectors =
        qdrant === undefined || encoder === undefined
          ? undefined
          : {
              qdrant: { url: qdrant, ...(collection === undefined ? {} : { collection }) },
              encoder: { directory: encoder, ...(encoderModel === undefined ? {} : { model: encoderModel }) },
            };
      const report = await indexCorpus({
        directory,
        passages,
        pages,
        words,
        vectors,
        signal: stop.signal,
        onProgress: ({ stage, done, total, unit }) => line.show(stageNames[stage], done, total, unit),
      });
      line.end();
      const { numPassages, numPages, numVectors } = report;
      const parts = [`${numPassages} passages`, `${numPages} pages`];
      if (vectors !== undefined) parts.push(`${numVectors} new vectors`);
      console.log(`${directory}: ${parts.join(", ")}`);
    });
}
