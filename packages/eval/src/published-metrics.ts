// What the published evaluation of WideSeek-R1 puts into its metrics.json, summed up sample by sample. Owns the names and
// what each figure is a mean of.
import { mean } from "./bootstrap.ts";
import type { PublishedSample, PublishedTurn } from "./published-layout.ts";

/** Means over no turns or trajectories are 0, as published. */
const ratio = (sum: number, count: number): number => (count === 0 ? 0 : sum / count);

export class PublishedMetrics {
  #numQuestions = 0;
  #numSamples = 0;
  #numTurns = 0;
  #numPlannerTurns = 0;
  #numWorkerTurns = 0;
  #numTeams = 0;
  readonly #sums = {
    prompt: 0,
    response: 0,
    subtask: 0,
    search: 0,
    access: 0,
    format: 0,
    mainTurns: 0,
    subagentTurns: 0,
    subagents: 0,
  };
  /** Scores of the samples of each single-answer question. */
  readonly #facts: number[][] = [];

  /** @param isFact a question with a single answer: only those have pass@1, avg@k and pass@k here, as published */
  add(samples: readonly PublishedSample[], isFact: boolean): void {
    this.#numQuestions += 1;
    this.#numSamples += samples.length;
    this.#sums.format += mean(samples.map((sample) => sample.final_answer_format));
    for (const { turns, total_turn_list: turnList } of samples) {
      for (const turn of turns) this.#addTurn(turn);
      if (turnList === null) continue;
      this.#numTeams += 1;
      this.#sums.mainTurns += turnList.at(-1) ?? 0;
      this.#sums.subagents += turnList.length - 1;
      this.#sums.subagentTurns += turnList.slice(0, -1).reduce((sum, turns) => sum + turns, 0);
    }
    // What could not be judged is in no score.
    const scores = samples.flatMap((sample) => (sample.llm_reward === null ? [] : [sample.llm_reward]));
    if (isFact && scores.length > 0) this.#facts.push(scores);
  }

  #addTurn({ prompt_ids_length, response_ids_length, tool_call_info: calls }: PublishedTurn): void {
    this.#numTurns += 1;
    this.#sums.prompt += prompt_ids_length;
    this.#sums.response += response_ids_length;
    if (calls === null) return;
    if (calls.role === "planner") this.#numPlannerTurns += 1;
    else this.#numWorkerTurns += 1;
    this.#sums.subtask += calls.subtask;
    this.#sums.search += calls.search;
    this.#sums.access += calls.access;
  }

  metrics(): Record<string, number> {
    const sums = this.#sums;
    const scores = this.#facts;
    return {
      ...(scores.length > 0 && {
        "pass@1": mean(scores.map(([first = 0]) => (first > 0 ? 1 : 0))),
        "avg@k": mean(scores.map(mean)),
        "pass@k": mean(scores.map((values) => (values.some((value) => value > 0) ? 1 : 0))),
      }),
      avg_prompt_length: ratio(sums.prompt, this.#numTurns),
      avg_response_length: ratio(sums.response, this.#numTurns),
      avg_total_length: ratio(sums.prompt + sums.response, this.#numTurns),
      total_num_trajectories: this.#numSamples,
      avg_turns_per_traj: ratio(this.#numTurns, this.#numSamples),
      turn_avg_subtask: ratio(sums.subtask, this.#numPlannerTurns),
      turn_avg_search: ratio(sums.search, this.#numWorkerTurns),
      turn_avg_access: ratio(sums.access, this.#numWorkerTurns),
      traj_avg_subtask: ratio(sums.subtask, this.#numSamples),
      traj_avg_search: ratio(sums.search, this.#numSamples),
      traj_avg_access: ratio(sums.access, this.#numSamples),
      final_answer_format: ratio(sums.format, this.#numQuestions),
      ...(this.#numTeams > 0 && {
        avg_main_agent_turns_per_traj: sums.mainTurns / this.#numTeams,
        avg_subagent_turns_per_traj: sums.subagentTurns / this.#numTeams,
        avg_num_subagents_per_traj: sums.subagents / this.#numTeams,
      }),
    };
  }
}
