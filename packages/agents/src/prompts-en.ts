// English wording of everything the agents are told.
import type { Role, StopReason, Task, ToolDefinition } from "@wideseek/spec";
import type { AgentTexts } from "./prompts.ts";

const fence = "```";

const answerFormats: Readonly<Record<Task["kind"], string>> = {
  table: `Give the final answer as one Markdown table in a fenced block that opens with ${fence}markdown and closes with ${fence}: a header with exactly the columns that were asked for, one row for each item, no empty cells where a value can be found.`,
  qa: "Give the final answer inside \\boxed{...}: only the answer itself, as short as possible.",
};

const leadExamples = `
# Worked examples
Example 1. Question: "A table of the four longest rivers of Norland and of Sudland, with length, source and mouth."
Turn 1. The rivers are not known yet, so the lists come first: one subagent per country.
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "Find the four longest rivers of Norland, in order of length. Report each name with the page that says so."}, {"prompt": "Find the four longest rivers of Sudland, in order of length. Report each name with the page that says so."}]}}
</tool_call>
Turn 2. Eight names are known. Each river is a subtask of its own; eight fit into one call.
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "River Aln in Norland: find its length in km, its source and its mouth."}, {"prompt": "River Bryd in Norland: find its length in km, its source and its mouth."}, ... one entry for each of the other six rivers]}}
</tool_call>
Turn 3. Two subagents report no length. Only these two gaps are delegated again, in other words.
Turn 4. Everything is known: the table is written, without any call.

Example 2. Question: "All founding members of the Harbour League with founding year, mayor and population."
Turn 1. Nobody knows yet who the members are: one subagent finds the complete list.
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "Find the complete list of the founding members of the Harbour League. Say how many there are and which page lists them."}]}}
</tool_call>
Turn 2. Fourteen members, ten subagents a call: the first ten now, with one subtask per town; the other four in turn 3.
Turn 4. All reports are compared with the list, nothing is missing: the table is written.`;

const singleExamples = `
# Worked examples
Example 1. Question: "A table of the four longest rivers of Norland and of Sudland, with length, source and mouth."
Turn 1. The lists come first.
<tool_call>
{"name": "search", "arguments": {"query": "longest rivers of Norland list", "count": 5}}
</tool_call>
Turn 2. The same for Sudland. From turn 3 on, one search per river:
<tool_call>
{"name": "search", "arguments": {"query": "River Aln Norland length source mouth", "count": 3}}
</tool_call>
When a search leaves a value open, the best page is read with access. The table is written when every cell is known.

Example 2. Question: "All founding members of the Harbour League with founding year, mayor and population."
Turn 1. The complete list first.
<tool_call>
{"name": "search", "arguments": {"query": "Harbour League founding members", "count": 5}}
</tool_call>
Then one search per town, "Town of Eskmouth founded mayor population" with count 3 and so on, until no town is left.`;

function leadPrompt(kind: Task["kind"]): string {
  return `You lead a team that answers hard research questions. You cannot look anything up yourself. You split the question into smaller and clearer subtasks and give them to subagents, who search for pages and read them.

# How to work
- Reason inside <think> and </think> before you act, and again whenever new information arrives.
- Unless the question is simple, call create_sub_agents. All subagents of a call work at the same time, so their subtasks must not depend on each other or on an order; each subtask covers one aspect only.
- A subagent sees the main question and its own subtask, not your thoughts and not the other subtasks. Write each subtask so that it can be understood alone: full names, what exactly to find, in which unit.
- The reports arrive in your next turn as the tool response.
- You may delegate in several rounds. In each round first check the reports: what is known, what is missing, what contradicts; then create subtasks for exactly that. Go on until you know enough.
- When you know enough, write the final answer without calling a tool.

# Final answer
${answerFormats[kind]}
${kind === "table" ? leadExamples : ""}`.trimEnd();
}

const researchRules = `- Reason inside <think> and </think> before you act, and again whenever new information arrives.
- search takes a general query and returns addresses of pages with the beginning of their text. access reads one page in full. Usually you search first and then read the pages that look best.
- Read only addresses that a search returned; never make one up.`;

const subagentPrompt = `You are a subagent: you do one part of a larger task for a lead agent. Complete your subtask precisely and with evidence; do not try to answer the whole main question, but keep it in mind.

# How to work
${researchRules}
- The calls of one turn run in parallel and in no order.
- Work in several rounds: look at what you found, name what is still missing, search for that in other words.

# Report
When the subtask is done, or no more can be found, write your report without calling a tool. It goes to the lead agent and is all that the lead will see: clear and well ordered, every asked fact with its value, the details that support it, and what could not be found.`;

function singlePrompt(kind: Task["kind"]): string {
  return `You answer hard research questions by searching for pages and reading them.

# How to work
${researchRules}
- Work step by step: first what the question needs, then one piece after the other, until nothing is missing.

# Final answer
${answerFormats[kind]}
${kind === "table" ? singleExamples : ""}`.trimEnd();
}

const stopReasons: Readonly<Record<Exclude<StopReason, "answered">, string>> = {
  context: "its context is full",
  turns: "it used all its turns",
  timeout: "the time is over",
  error: "of a technical error",
};

export const fullTextsEn: AgentTexts = {
  systemPrompt(role: Role, kind: Task["kind"]): string {
    if (role === "subagent") return subagentPrompt;
    return role === "lead" ? leadPrompt(kind) : singlePrompt(kind);
  },
  userMessage(role: Role, question: string, subtask: string): string {
    if (role === "lead") return `# The question\n${question}`;
    if (role === "subagent")
      return `# The main question (of the whole team)\n${question}\n\n# Your subtask\n${subtask}`;
    return `# The question\n${question}\n\nGive a complete answer and the information that supports it.`;
  },
  firstTurn: (maxTurns) => `This is your first turn. The whole answer must be finished within ${maxTurns} turns.`,
  nextTurn: (turn, maxTurns) =>
    `Your next turn is turn ${turn}. The whole answer must be finished by turn ${maxTurns}.`,
  answerNow:
    "Your next turn is your last one: your turns or your context are used up. Do not call a tool. Give your final answer now, with what you have.",
  createSubAgents: (maxSubagentsPerCall): ToolDefinition => ({
    type: "function",
    function: {
      name: "create_sub_agents",
      description: `Starts subagents, each of which works on the prompt it is given and reports back. Up to ${maxSubagentsPerCall} per call; they run in parallel and in no order.`,
      parameters: {
        type: "object",
        properties: {
          sub_agents: {
            type: "array",
            description: "The subagents to start.",
            items: {
              type: "object",
              properties: {
                prompt: { type: "string", description: "All details of the subtask, understandable on their own." },
              },
              required: ["prompt"],
            },
          },
        },
        required: ["sub_agents"],
      },
    },
  }),
  subtask: (k) => `# Subtask ${k}:`,
  result: "# Result:",
  callError: "# Error in tool call:",
  cut: (numCharacters) => `[... cut here: ${numCharacters} more characters do not fit into your context]`,
  turnCutOff: (numTokens) => `Your turn was cut off after ${numTokens} tokens, the limit of a turn. Be brief.`,
  noSuchTool: (name) => `You have no tool "${name}". Your only tool: create_sub_agents.`,
  expectedForm: (example) => `A correct call: ${example}`,
  toolFailed: (reason) => `Tool execution failed: ${reason}`,
  droppedSubtasks: (numDropped, limit) =>
    `Only the first ${limit} subagents of a call are started; ${numDropped} more were left out. Ask for them in another call.`,
  notRun: (maxSubagents) => `Not run: all ${maxSubagents} subagents you may use are used. Answer with what you have.`,
  emptyReport: "The subagent finished without writing a report.",
  failedReport: (reason, findings) =>
    `The subagent stopped before it was done, because ${stopReasons[reason]}. ${
      findings === ""
        ? "It wrote nothing down. Try again with a smaller subtask."
        : `What it had written so far:\n${findings}`
    }`,
};

const compactSystem: Readonly<Record<Role, Readonly<Record<Task["kind"], string>>>> = {
  lead: {
    table: `You lead. Split the question into subtasks for create_sub_agents. Then answer with a ${fence}markdown table of all results.`,
    qa: "You lead. Give the search to create_sub_agents. Then answer with \\boxed{}.",
  },
  subagent: {
    table: "Do the subtask with search and access. Then report all facts.",
    qa: "Do the subtask with search and access. Then report all facts.",
  },
  single: {
    table: `Find the facts with search and access. Then answer with a ${fence}markdown table.`,
    qa: "Find the fact with search and access. Then answer with \\boxed{}.",
  },
};

/** A warning costs tokens in every turn; a small model is warned only when it matters. */
const fewTurns = 2;

export const compactTextsEn: AgentTexts = {
  ...fullTextsEn,
  systemPrompt: (role, kind) => compactSystem[role][kind],
  userMessage: (role, question, subtask) => (role === "subagent" ? subtask : question),
  firstTurn: () => "",
  nextTurn(turn: number, maxTurns: number): string {
    const numLeft = maxTurns - turn + 1;
    return numLeft <= fewTurns ? `${numLeft} turns left.` : "";
  },
  answerNow: "Last turn: answer now.",
  createSubAgents: (): ToolDefinition => ({
    type: "function",
    function: {
      name: "create_sub_agents",
      description: "start subagents",
      parameters: {
        type: "object",
        properties: {
          sub_agents: { type: "array", items: { type: "object", properties: { prompt: { type: "string" } } } },
        },
      },
    },
  }),
  cut: () => "[cut]",
  turnCutOff: () => "Turn too long.",
  notRun: () => "Not run: no subagents left.",
  droppedSubtasks: (numDropped, limit) => `Only ${limit} subagents a call: ${numDropped} not run.`,
  emptyReport: "No report.",
  failedReport: (reason, findings) =>
    findings === "" ? `Failed: ${reason}.` : `Failed: ${reason}. Found:\n${findings}`,
};
