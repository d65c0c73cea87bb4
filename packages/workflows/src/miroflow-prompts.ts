// What MiroFlow's main agent and worker are told. Owns wording; the loop is in miroflow.ts.
import type { Task } from "@wideseek/spec";
import { tableForm } from "./answer-form.ts";

export interface McpTool {
  name: string;
  description: string;
  schema: object;
}

export interface McpServer {
  name: string;
  tools: readonly McpTool[];
}

export function systemPrompt(level: "main" | "worker", date: string, servers: readonly McpServer[]): string {
  const described = servers.map(({ name, tools }) => {
    const each = tools.map((tool) => {
      return `### Tool name: ${tool.name}\nDescription: ${tool.description}\nInput JSON schema: ${JSON.stringify(tool.schema)}`;
    });
    return `## Server name: ${name}\n${each.join("\n")}`;
  });
  return `Today is ${date}. You solve tasks step by step with tools.

# Tool calls
You may call one tool per message, at the end of the message. Its result is the next message of the user. A call has this form, with the name of a server and of a tool of that server as listed below, and a JSON object as its arguments:
<use_mcp_tool>
<server_name>name of the server</server_name>
<tool_name>name of the tool</tool_name>
<arguments>
{"parameter": "value"}
</arguments>
</use_mcp_tool>

${described.join("\n\n")}

# General Objective
1. Read the task and write a numbered plan first.
2. Carry the plan out step by step, with one tool call a step; think before each call about what is known and what is missing. Whatever you hand to a tool must be understandable on its own: it sees nothing of this conversation.
3. Change the plan when results demand it, and check important facts in a second place.
4. Do not present the final result before you are asked for it; when the work is done, say so in a message without a call.${level === "worker" ? workerObjective : mainObjective}`;
}

const workerObjective = `

# Agent Specific Objective
You carry out one subtask for another agent. Report facts only, with the pages that state them; say what is uncertain or missing; draw no conclusions of your own.`;

const mainObjective = `

# Agent Specific Objective
You answer a question. You cannot look anything up yourself: hand every search to a worker, one clear subtask at a time.`;

export function summaryPrompt(level: "main" | "worker", task: Task, request: string, limitReached: boolean): string {
  const failed = limitReached
    ? "You did not finish within your limits. Give the best result that the findings so far allow, and say nothing of tools any more.\n\n"
    : "";
  if (level === "worker") {
    return `${failed}The work on your subtask is over; call no tool any more. The subtask was:\n${request}\n\nWrite the report that answers it: every fact that was found, with figures, names and dates as the pages have them and the pages that state them. Whoever reads it sees nothing else of this conversation.`;
  }
  const form =
    task.kind === "table"
      ? `Give ${tableForm(task)}.`
      : "Give the answer in \\boxed{...}: a short phrase, or a list with commas between its items.";
  return `${failed}The work is over; call no tool any more. The question was:\n${request}\n\nSum up in a few sentences what was found, and then answer the question. ${form}`;
}

export const wrongCall = (errors: readonly string[]): string =>
  `Your tool call could not be read: ${errors.join("; ")}. Think again, and repeat it in the form that the instructions show.`;

export const omitted = "Tool result is omitted to save tokens.";
