// llama.cpp through node-llama-cpp, as a peer process: `node llamacpp-child.mjs FOLDER`, FOLDER having it in node_modules.
// One JSON request a line in, one JSON reply a line out; seconds are measured here, around the work alone.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2] ?? ".");
const require = createRequire(join(folder, "package.json"));
const { getLlama } = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

let model;
let threads = 2;
const contexts = new Map();

/** Contexts are kept: creating one is no part of the work. */
async function sequences(batch, tokens) {
  const key = `${batch}/${tokens}`;
  if (!contexts.has(key)) {
    const context = await model.createContext({
      sequences: batch,
      contextSize: tokens,
      batchSize: 512,
      threads: { ideal: threads, min: threads },
      flashAttention: "auto",
    });
    contexts.set(
      key,
      Array.from({ length: batch }, () => context.getSequence()),
    );
  }
  const found = contexts.get(key);
  for (const sequence of found) await sequence.clearHistory();
  return found;
}

const operations = {
  async load({ path, numThreads }) {
    threads = numThreads;
    const llama = await getLlama({
      gpu: false,
      build: "never",
      maxThreads: threads,
      logLevel: "error",
      progressLogs: false,
    });
    model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
    const manifest = join(folder, "node_modules/node-llama-cpp/package.json");
    return { version: JSON.parse(readFileSync(manifest, "utf8")).version };
  },
  async prefill({ prompts }) {
    const [sequence] = await sequences(1, prompts[0].length + 64);
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompts[0]);
    return { seconds: (performance.now() - start) / 1000 };
  },
  /** Greedy. Decode counts the tokens that came after every sequence had its first. */
  async generate({ prompts, numNew }) {
    const batch = await sequences(prompts.length, prompts[0].length + numNew + 64);
    let numStarted = 0;
    let decodeStart = 0;
    let numDecoded = 0;
    const start = performance.now();
    const tokenIds = await Promise.all(
      batch.map(async (sequence, index) => {
        const ids = [];
        for await (const id of sequence.evaluate(prompts[index], { temperature: 0, yieldEogToken: true })) {
          ids.push(id);
          if (numStarted === prompts.length) numDecoded++;
          if (ids.length === 1 && ++numStarted === prompts.length) decodeStart = performance.now();
          if (ids.length === numNew) break;
        }
        return ids;
      }),
    );
    const end = performance.now();
    return {
      seconds: (end - start) / 1000,
      decodeTokensPerSecond: numDecoded / ((end - decodeStart) / 1000),
      tokenIds,
    };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...parameters } = JSON.parse(line);
  let reply;
  try {
    reply = await operations[op](parameters);
  } catch (error) {
    reply = { error: String(error?.stack ?? error) };
  }
  console.log(JSON.stringify({ ...reply, peakBytes: process.resourceUsage().maxRSS * 1024 }));
}
process.exit(0);
