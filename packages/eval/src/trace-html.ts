// One episode as collapsible HTML: reward terms, the lead, its subagents, every turn with its tool calls.
import type { RewardBreakdown } from "@wideseek/spec";
import { escapeHtml } from "./html.ts";
import { measureName } from "./measure-names.ts";
import type { AgentTrace, EpisodeTrace, SegmentTrace } from "./trace.ts";

function formatNumber(value: unknown): string {
  return typeof value === "number" && Number.isFinite(value) ? String(Number(value.toFixed(4))) : "–";
}

function rewardTerms(reward: RewardBreakdown): [string, unknown][] {
  return [
    ["score", reward.score],
    ...(reward.table ? Object.entries(reward.table) : []),
    ...(reward.qa ? Object.entries(reward.qa) : []),
    ["format reward", reward.formatReward],
    ["tool reward", reward.toolReward],
    ["length penalty", reward.lengthPenalty],
    ["reward (score and terms)", reward.total],
  ];
}

function rewardHtml(trace: EpisodeTrace): string {
  const terms = rewardTerms(trace.reward);
  if (trace.advantage !== undefined) terms.push(["advantage", trace.advantage]);
  const cells = terms.map(
    ([name, value]) => `<span class="term">${escapeHtml(measureName(name))} <b>${formatNumber(value)}</b></span>`,
  );
  const judged = trace.reward.judged ? "" : '<span class="term bad">not judged</span>';
  return `<p class="terms">${judged}${cells.join("")}</p><p class="reason">${escapeHtml(trace.reward.reason)}</p>`;
}

const blocks =
  /(<think>[\s\S]*?(?:<\/think>|$)|<tool_call>[\s\S]*?(?:<\/tool_call>|$)|<tool_response>[\s\S]*?(?:<\/tool_response>|$))/;

/** Marks thoughts, tool calls and tool results. The text is cut into pieces first and each piece escaped after. */
function textHtml(text: string): string {
  return text
    .split(blocks)
    .filter((piece) => piece !== "")
    .map((piece) => {
      const kind = /^<(think|tool_call|tool_response)>/.exec(piece)?.[1];
      return kind ? `<span class="${kind}">${escapeHtml(piece)}</span>` : escapeHtml(piece);
    })
    .join("");
}

function segmentHtml(segment: SegmentTrace, index: number): string {
  const tokens = segment.tokenIds ? `, ${segment.tokenIds.length} tokens` : "";
  const body = `<pre>${textHtml(segment.text ?? `token ids ${segment.tokenIds?.join(" ") ?? ""}`)}</pre>`;
  if (segment.kind === "sampled") {
    return `<div class="segment sampled"><small>sampled${tokens}</small>${body}</div>`;
  }
  // The first given segment is the long, always equal system prompt.
  const open = index > 0 ? " open" : "";
  const title = index === 0 ? "prompt" : "tool results";
  return `<details class="segment given"${open}><summary><small>${title}${tokens}</small></summary>${body}</details>`;
}

function agentHtml(agent: AgentTrace): string {
  const name = agent.role === "subagent" ? `subagent ${agent.agentId}` : agent.role;
  const facts = [
    `${agent.numTurns} turns`,
    agent.numSearches ? `${agent.numSearches} searches` : "",
    agent.numAccesses ? `${agent.numAccesses} accesses` : "",
    agent.numSubagentCalls ? `${agent.numSubagentCalls} delegations` : "",
    agent.numMalformedCalls ? `${agent.numMalformedCalls} malformed calls` : "",
  ].filter((fact) => fact !== "");
  const stop = agent.stopReason === "answered" ? "" : ` <span class="bad">${escapeHtml(agent.stopReason)}</span>`;
  const errors = agent.errors.map((error) => `<li>${escapeHtml(error)}</li>`).join("");
  const subtask = agent.role === "subagent" ? `<p class="subtask">${escapeHtml(agent.prompt)}</p>` : "";
  return `<details class="agent ${agent.role}"><summary><b>${escapeHtml(name)}</b>${stop} <small>${facts.join(" · ")}</small>${subtask}</summary>
${errors ? `<ul class="bad">${errors}</ul>` : ""}${agent.segments.map(segmentHtml).join("\n")}
</details>`;
}

/** What the reward adds to the score is for training only, so it has its name. */
function badgeHtml({ judged, score, total }: RewardBreakdown): string {
  if (!judged) return '<span class="score bad">not judged</span>';
  return `<span class="score">score ${formatNumber(score)}</span> <small>reward ${formatNumber(total)}</small>`;
}

/** `isTraining`: the episode has a step that means something. */
export function traceHtml(trace: EpisodeTrace, isTraining: boolean): string {
  const numSubagents = trace.agents.filter((agent) => agent.role === "subagent").length;
  const title = `${trace.task.instanceId} #${trace.sample}`;
  return `<details class="episode"><summary>${badgeHtml(trace.reward)} <b>${escapeHtml(title)}</b> <small>${isTraining ? `step ${trace.step} · ` : ""}${trace.workflow === "mas" ? `${numSubagents} subagents` : "single agent"} · ${trace.seconds.toFixed(1)} s</small><br>${escapeHtml(trace.task.question)}</summary>
${rewardHtml(trace)}
<details class="answer"><summary>answer</summary><pre>${escapeHtml(trace.agents[0]?.answer ?? "")}</pre></details>
${trace.agents.map(agentHtml).join("\n")}
</details>`;
}
