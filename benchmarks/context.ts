// What every benchmark file gets, and the form of what it gives back.
import type { BenchModel, ModelShape } from "./bench-model.ts";
import type { BenchDevice } from "./device.ts";
import type { LlamaCppPeer } from "./peers/llamacpp.ts";
import type { TorchPeer } from "./peers/torch.ts";
import type { Measurement } from "./record.ts";
import type { BenchSizes } from "./sizes.ts";

export interface BenchmarkContext {
  /** Toy sizes: only that everything runs. */
  smoke: boolean;
  /** Of the models; everything else runs on the CPU. */
  device: BenchDevice;
  sizes: BenchSizes;
  threads: number;
  rounds: number;
  /** Pages of the synthetic corpus. */
  passages: number;
  /** Folder of real data (WideSearch), or null. */
  dataDirectory: string | null;
  shape: ModelShape;
  model: BenchModel;
  /** Empty when no Python was named. */
  torch: readonly TorchPeer[];
  llamaCpp: LlamaCppPeer | null;
}

/** Gives every measurement as soon as it is there, so that an interrupted run keeps what it had. */
export type Benchmark = (context: BenchmarkContext) => AsyncIterable<Measurement>;
