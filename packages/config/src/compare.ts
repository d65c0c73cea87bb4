// Which settings results depend on, and which of them two configs have otherwise. Owns no reading of configs.
import type { RunConfig } from "./schema.ts";

/** How a model server is reached and for how long it is waited for: no reply depends on it. */
const FREE_OF_MODEL = [
  "apiKeyEnv",
  "maxConcurrent",
  "attemptSeconds",
  "deadlineSeconds",
  "maxAttempts",
  "breakerFailures",
  "breakerSeconds",
  "cacheFile",
  "cacheMaxMiB",
  "baseUrl",
];

/** Settings that do not change what a step computes; a run may be continued with other values of them. */
const FREE_KEYS: readonly (readonly [keyof RunConfig, string])[] = [
  ["run", "directory"],
  ["train", "checkpointEvery"],
  ["train", "keepCheckpoints"],
  ["train", "maxConcurrentEpisodes"],
  ["coldStart", "checkpointEvery"],
  ["coldStart", "keepCheckpoints"],
  ["train", "judgeRetrySeconds"],
  ["suite", "models"],
  ...FREE_OF_MODEL.flatMap((key) => [["judge", key] as const, ["summary", key] as const]),
];

/** The settings that results depend on. */
export function resultSettings(config: RunConfig): Record<string, Record<string, unknown>> {
  const relevant: Record<string, Record<string, unknown>> = structuredClone(config);
  for (const [section, key] of FREE_KEYS) delete relevant[section]?.[key];
  // A longer run under a constant learning rate begins exactly like the shorter one.
  for (const section of ["train", "coldStart"] as const) {
    if (config[section].schedule !== "constant") continue;
    // With batches sampled ahead it does not: the last step of the shorter one samples none.
    if (section === "train" && config.train.staleness > 0) continue;
    delete relevant[section]?.steps;
  }
  return relevant;
}

/** Of an evaluation: settings that change no episode and no score of it. */
const FREE_IN_EVALUATION: readonly RegExp[] = [
  /^(train|coldStart|expert|run)\./,
  /^eval\.(samples|maxTasks|workflows|concurrency|judgeAttempts|traces|traceSamples|sweep\w+)$/,
  /^engine\.(device|threads|kvCacheTokens|maxBatchTokens|maxContextTokens|recompute|gradientDtype|pinnedOptimizerState)$/,
  /^model\.create/,
  // Rows of a suite are told apart by labels of their own.
  /^suite\./,
  // How the web is reached; what comes back changes from day to day in any case.
  /^data\.web\.(cache\.|maxAttempts$|attemptSeconds$|breaker\w+$|maxPageMiB$)/,
  /^data\.(web\.search|web\.access|mcp)\.(apiKeyEnv|maxConcurrent\w*|requestsPerSecondPerHost|threads)$/,
  new RegExp(`^(judge|summary)\\.(${FREE_OF_MODEL.join("|")})$`),
];

/** A line for each setting that episodes or scores of an evaluation depend on and that differs. */
export function changedEvaluation(before: RunConfig, after: RunConfig): string[] {
  return changes(before, after, (config) => {
    const settings = [...leaves(config)].filter(([key]) => !FREE_IN_EVALUATION.some((free) => free.test(key)));
    return new Map(settings);
  });
}

/** A line for each setting by which the second evaluation would drop finished episodes of the first. */
export function shrunkEvaluation({ eval: before }: RunConfig, { eval: after }: RunConfig): string[] {
  const all = (maxTasks: number): number => (maxTasks === 0 ? Number.POSITIVE_INFINITY : maxTasks);
  return [
    ...(after.samples < before.samples ? [`eval.samples: ${before.samples} -> ${after.samples}`] : []),
    ...(all(after.maxTasks) < all(before.maxTasks) ? [`eval.maxTasks: ${before.maxTasks} -> ${after.maxTasks}`] : []),
  ];
}

/** A line for each setting that results depend on and that differs: "train.groupSize: 2 -> 3". */
export function changedSettings(before: RunConfig, after: RunConfig): string[] {
  return changes(before, after, (config) => leaves(resultSettings(config)));
}

function changes(before: RunConfig, after: RunConfig, pick: (config: RunConfig) => Map<string, string>): string[] {
  const [all, relevant] = [
    [leaves(before), leaves(after)],
    [pick(before), pick(after)],
  ] as const;
  const keys = [...new Set(relevant.flatMap((settings) => [...settings.keys()]))];
  return keys.flatMap((key) => {
    // From the whole configs: a key may be relevant on one side only, and still be the same on both.
    const [old, now] = all.map((settings) => settings.get(key) ?? "none");
    return old === now ? [] : [`${key}: ${old} -> ${now}`];
  });
}

/** "train.groupSize" to its value as JSON; lists are one value. */
function leaves(value: object, prefix = ""): Map<string, string> {
  return new Map(
    Object.entries(value).flatMap(([key, item]): [string, string][] =>
      typeof item === "object" && item !== null && !Array.isArray(item)
        ? [...leaves(item, `${prefix}${key}.`)]
        : [[`${prefix}${key}`, JSON.stringify(item)]],
    ),
  );
}
