// What the agents of OWL's workforce are told. Owns wording; forms of replies are in owl.ts.
import type { Task } from "@wideseek/spec";
import { tableForm } from "./answer-form.ts";

export interface WorkerKind {
  id: string;
  name: string;
  description: string;
  tools: readonly string[];
}

const workerList = (workers: readonly WorkerKind[]): string =>
  workers.map(({ id, name, description }) => `${id}: ${name}. ${description}`).join("\n");

const subtaskRules = (task: Task): string => `Rules for the subtasks:
- They are worked on one after the other, each by one worker, who sees the question and the results of the subtasks before it.
- Make two or three of them, more only where the question needs it. A subtask says all that it takes to understand it.
- What is only a matter of reasoning is not split.
- One subtask checks what the others have found.
- The last one asks for the answer to the whole question, in this form: ${answerForm(task)}.

Reply with the subtasks in this form and nothing else:
<tasks>
<task>the first subtask</task>
<task>the second subtask</task>
</tasks>`;

export function decomposePrompt(task: Task, workers: readonly WorkerKind[]): string {
  return `You split a question into subtasks for a team of workers.

Question:
${task.question}

Workers:
${workerList(workers)}

${subtaskRules(task)}`;
}

export function replanPrompt(task: Task, workers: readonly WorkerKind[], failure: string): string {
  return `You split a question into subtasks for a team of workers. An earlier plan has failed; make another one that avoids what went wrong and uses what was found.

Question:
${task.question}

What happened with the earlier plan:
${failure}

Workers:
${workerList(workers)}

${subtaskRules(task)}`;
}

export function assignPrompt(subtask: string, workers: readonly WorkerKind[]): string {
  return `Decide which worker is given this subtask.

Subtask:
${subtask}

Workers:
${workerList(workers)}

Reply with a JSON object of one key, assignee_id: the number in front of the worker.`;
}

export function workerSystem({ name, description }: WorkerKind): string {
  return `You are the ${name} of a team. ${description} Use your tools; do not answer from memory what can be looked up, and say which page a fact comes from.`;
}

export function workPrompt(task: Task, subtask: string, results: string): string {
  return `Work on this subtask:
${subtask}

It is part of a larger question, which others work on too:
${task.question}

Results of the subtasks before it:
${results}

When you are done, or cannot go on, reply with a JSON object of two keys and call no tool any more: content (the result in full, with every fact that later subtasks or the answer need) and failed (true when the subtask could not be done, with the reason in content).`;
}

export const resultOnly: string =
  "You have used up your tool calls. Reply now with the JSON object: content and failed, from what you have found.";

export function answererPrompt(task: Task, results: string): string {
  return `Others have worked on a question. Do not try to solve it yourself; bring their results into the form that is asked for.

Question:
${task.question}

Subtasks and their results:
${results}

The answer is ${answerForm(task)}. Reply with the answer only.`;
}

function answerForm(task: Task): string {
  return task.kind === "table"
    ? tableForm(task)
    : "a number, or as few words as possible, or a list of such with commas between them; no articles, and no units unless they are asked for";
}
