// What the roles of AgentFlow are told. Owns wording; forms of replies are in agentflow.ts.
import type { Task } from "@wideseek/spec";
import { tableForm } from "./answer-form.ts";

/** Tools of the planner under the names that its weights know. */
export interface PlannerTool {
  name: string;
  use: string;
  command: string;
}

const list = (tools: readonly PlannerTool[]): string => tools.map(({ name, use }) => `- ${name}: ${use}`).join("\n");

export function analysisPrompt(task: Task, tools: readonly PlannerTool[]): string {
  return `You prepare the work on a query. Work out which skills and which of the tools it takes.

Query: ${task.question}

Tools:
${list(tools)}

Say, briefly: what the query asks for (concise_summary); the skills it takes and why (required_skills); the tools that help and for what (relevant_tools); what else has to be kept in mind (additional_considerations). Reply with a JSON object that has these four keys, each of them text.`;
}

export function planPrompt(
  task: Task,
  {
    analysis,
    tools,
    memory,
    step,
    maxSteps,
  }: { analysis: string; tools: readonly PlannerTool[]; memory: string; step: number; maxSteps: number },
): string {
  return `You plan the next step towards the answer to a query. This is step ${step} of at most ${maxSteps}.

Query: ${task.question}

Analysis: ${analysis}

Tools:
${list(tools)}

Steps so far:
${memory}

Choose one tool, by its exact name, and one goal that it can reach alone. The tool sees nothing but what you hand it: the context must hold every name, number and address that the step needs, taken from the steps so far. Do not repeat a step that has already brought its result.

Reply in this form and end with the tool's name:
Justification: why this step and this tool
Context: everything that the tool has to know
Sub-Goal: what the step is to find out
Tool Name: the name of one tool`;
}

export function commandPrompt(task: Task, step: { context: string; subGoal: string }, tool: PlannerTool): string {
  return `You write the command that carries out one step.

Query of the user: ${task.question}
Goal of the step: ${step.subGoal}
Context: ${step.context}
Tool: ${tool.name}: ${tool.use}
Its command is a JSON object: ${tool.command}

Reply with a JSON object of three keys: analysis (what the step needs), explanation (why the command brings it), command (the object above, filled in).`;
}

export function verificationPrompt(
  task: Task,
  { analysis, tools, memory }: { analysis: string; tools: readonly PlannerTool[]; memory: string },
): string {
  return `You decide whether the results so far are enough to answer a query in full, or whether work has to go on.

Query: ${task.question}

Analysis: ${analysis}

Tools that could still be used:
${list(tools)}

Steps so far:
${memory}

Check: is every part of the query answered by a result? Do results contradict each other? Is a value only guessed? Reply with a JSON object of two keys: analysis (what is there and what is missing) and stop_signal (true when the query can be answered in full, else false).`;
}

export function answerPrompt(task: Task, memory: string): string {
  const form =
    task.kind === "table"
      ? `Give ${tableForm(task)}.`
      : "Put the answer alone, as short as possible, between <answer> and </answer>.";
  return `You write the final answer from the results of the steps below, and from nothing else.

Query: ${task.question}

Steps:
${memory}

First, under "1. Process Summary", say in a few sentences which steps brought what. Then, under "2. Answer", answer the query. ${form}`;
}
