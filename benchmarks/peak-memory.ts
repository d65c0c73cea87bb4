// A process that does nothing but train, to read its peak memory: `peak-memory.ts MODEL_DIR THREADS smoke|full`.
import { NativePolicy } from "@wideseek/engine";
import { RandomTokens } from "./bench-model.ts";
import { cpuSizes, toySizes } from "./sizes.ts";
import { randomBatch, trainStep } from "./train-step.ts";

const [modelDir = "", threads = "2", size] = process.argv.slice(2);
const { train: sizes } = size === "smoke" ? toySizes : cpuSizes;
const maxTrainTokens = sizes.batch * sizes.length;
await using policy = await NativePolicy.load({
  modelDir,
  device: "cpu",
  threads: Number(threads),
  maxContextTokens: 1024,
  kvCacheTokens: 1024,
  maxTrainTokens,
});
const tokens = new RandomTokens(policy.vocabSize);
// The second step has all moments in place.
for (let step = 0; step < 3; step++) await trainStep(policy, randomBatch(tokens, sizes));
console.log(process.resourceUsage().maxRSS * 1024);
