// Which metrics share a chart, in which order, under which title and unit. Owns no drawing.
import { measureName } from "./measure-names.ts";

export interface ChartPlan {
  /** With its unit. */
  title: string;
  /** Metric and its name in the legend. */
  series: readonly (readonly [metric: string, label: string])[];
}

/** What a reader looks at first: did it learn, does the policy stay sound, how fast was it. */
export const mainCharts: readonly ChartPlan[] = [
  {
    title: "Reward (mean per episode)",
    series: [
      ["reward/mean", "reward"],
      ["reward/score", "score alone"],
    ],
  },
  {
    title: "Rollouts: item F1 (0 to 1)",
    series: [["table/item_f1", "item F1"]],
  },
  {
    title: "Rollouts: fact answers (0 to 1)",
    series: [
      ["qa/exact_match", "exact match"],
      ["qa/token_f1", "token F1"],
    ],
  },
  { title: "Loss (mean over tokens)", series: [["cold_start/loss", "loss"]] },
  { title: "Negative log-likelihood (nats per token)", series: [["cold_start/nll", "training"]] },
  {
    title: "Format and tool reward (per episode)",
    series: [
      ["reward/format", "format"],
      ["reward/tool", "tool"],
      ["reward/length_penalty", "length penalty"],
    ],
  },
  { title: "Zero variance (groups per step)", series: [["group/zero_variance", "groups"]] },
  { title: "Subagents (per episode)", series: [["episode/subagents", "subagents"]] },
  {
    title: "KL divergence (nats per token)",
    series: [
      ["policy/kl_k3", "to sampling"],
      ["policy/ref_kl_k3", "to reference"],
    ],
  },
  {
    title: "Entropy (nats per token)",
    series: [
      ["policy/entropy", "entropy"],
      ["cold_start/entropy", "entropy"],
    ],
  },
  {
    title: "Probability ratio, new / old",
    series: [
      ["policy/ratio_mean", "mean"],
      ["policy/ratio_max", "highest"],
      ["policy/ratio_min", "lowest"],
    ],
  },
  { title: "Gradient norm", series: [["train/grad_norm", "norm"]] },
  { title: "Learning rate", series: [["train/learning_rate", "rate"]] },
  {
    title: "Throughput (tokens per second)",
    series: [
      ["throughput/sampled_tokens_per_second", "sampled"],
      ["throughput/packed_tokens_per_second", "trained"],
    ],
  },
  {
    title: "Time (seconds per step)",
    series: [
      ["time/step", "step"],
      ["time/rollout", "rollout"],
      ["time/train", "training"],
    ],
  },
];

/** Titles that the words of the metric's name do not give. */
const titles: Readonly<Record<string, string>> = {
  "reward/std": "Reward: standard deviation",
  "reward/unjudged": "Reward: episodes not judged",
  "reward/judged_again": "Reward: judgements tried again",
  "table/item_f1": "Rollouts: item F1",
  "table/row_f1": "Rollouts: row F1",
  "table/item_precision": "Rollouts: item precision",
  "table/item_recall": "Rollouts: item recall",
  "table/success": "Rollouts: success (share of episodes)",
  "policy/nll": "Policy: negative log-likelihood (nats per token)",
  "policy/kl_k1": "KL divergence, k1 (nats per token)",
  "policy/max_logprob_diff": "Policy: largest log-probability difference (nats)",
  "policy/clip_low": "Policy: clipped low (share of tokens)",
  "policy/clip_high": "Policy: clipped high (share of tokens)",
  "policy/dual_clip": "Policy: dual clip (share of tokens)",
  "train/tokens": "Training: tokens with a weight (per step)",
  "held_out/nll": "Held-out: negative log-likelihood (nats per token)",
  "held_out/accuracy_at_least": "Held-out: tokens certain to be the likeliest (share)",
  "held_out/tokens": "Held-out: tokens",
};

/** Unit of every metric of a group, where there is one. */
const units: Readonly<Record<string, string>> = {
  episode: "per episode",
  turns: "per agent",
  stop_lead: "share of leads",
  stop_subagent: "share of subagents",
  length: "tokens",
  degenerate: "share",
  group: "groups per step",
  time: "seconds per step",
};

/** A readable title with its unit: "length/response_max" -> "Length: response max (tokens)". */
export function metricTitle(name: string): string {
  const known = titles[name];
  if (known !== undefined) return known;
  const heldOut = /^held_out_(\w+)\/(\w+)_(avg|max|pass)$/.exec(name);
  if (heldOut) return `Held-out ${heldOut[1]}: ${measureName(heldOut[2] ?? "")} ${heldOut[3]}`;
  const parts = /^([a-z]\w*)\/(\w+)$/.exec(name);
  // Not one of ours: shown as it is.
  if (!parts) return name;
  const [, group = "", metric = ""] = parts;
  const words = (text: string): string => text.replaceAll("_", " ");
  const unit = metric.endsWith("_mib") ? "MiB" : name === "episode/seconds" ? undefined : units[group];
  const title = `${group.charAt(0).toUpperCase()}${words(group.slice(1))}: ${words(metric.replace(/_mib$/, ""))}`;
  return unit === undefined ? title : `${title} (${unit})`;
}
