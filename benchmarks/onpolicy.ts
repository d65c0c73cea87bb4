// Largest difference between log-probabilities recorded while sampling and those of the training forward.
import { RandomTokens } from "./bench-model.ts";
import type { Benchmark } from "./context.ts";
import { dtypeOf } from "./device.ts";

const sampling = { temperature: 1, topP: 1, topK: 0, minP: 0 };

export const onPolicyBenchmark: Benchmark = async function* ({ shape, model, threads, device, sizes }) {
  const { agents: numAgents, new: maxNewTokens } = sizes.onPolicy;
  await using policy = await model.open({ threads, kvCacheTokens: numAgents * 512, maxTrainTokens: numAgents * 512 });
  const tokens = new RandomTokens(shape.vocabSize);
  // Agents of a question share a prefix; lengths differ, so that sequences join and leave the batch.
  const shared = tokens.take(sizes.onPolicy.shared);
  const prompts = Array.from({ length: numAgents }, (_, agent) => {
    const own = tokens.take(1 + (agent % 37));
    return agent % 2 === 0 ? Int32Array.of(...shared, ...own) : own;
  });
  const completions = await Promise.all(
    prompts.map((promptIds, agent) =>
      policy.generate({ promptIds, maxNewTokens, seed: BigInt(agent), sampling, stopTokenIds: [agent] }),
    ),
  );
  const sequences = prompts.map((prompt, agent) => Int32Array.of(...prompt, ...(completions[agent]?.tokenIds ?? [])));
  const cuSeqlens = Int32Array.from({ length: numAgents + 1 }, (_, index) =>
    sequences.slice(0, index).reduce((sum, sequence) => sum + sequence.length, 0),
  );
  const tokenIds = Int32Array.from(sequences.flatMap((sequence) => [...sequence]));
  const { logprobs } = await policy.logprobs({ tokenIds, cuSeqlens }, sampling.temperature);
  let largest = 0;
  let numCompared = 0;
  for (const [agent, completion] of completions.entries()) {
    const first = (cuSeqlens[agent] ?? 0) + (prompts[agent]?.length ?? 0);
    for (const [index, sampled] of completion.logprobs.entries()) {
      largest = Math.max(largest, Math.abs(sampled - (logprobs[first + index] ?? Number.NaN)));
      numCompared++;
    }
  }
  const params = { shape: shape.name, dtype: dtypeOf(device), agents: numAgents, newTokens: maxNewTokens };
  const prefix = device.kind === "cpu" ? "onpolicy.cpu" : "onpolicy.gpu";
  yield { name: `${prefix}.max_abs_diff`, unit: "nats", values: [largest], params };
  yield { name: `${prefix}.tokens`, unit: "1", values: [numCompared], params };
};
