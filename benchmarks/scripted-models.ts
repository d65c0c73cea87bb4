// Models that follow the protocols of the other systems by rule, on questions of the embedded world: what they write comes
// from their prompts alone, as a model's would. They show that every workflow runs from question to score; their figures
// say nothing about the real systems. Owns no workflow.
import { ScriptedServer, type ServerReply, type ServerRequest } from "@wideseek/llm/testing";

export const scriptedModelsPort = 8907;

/** Names under which the server knows them. */
const models: Readonly<Record<string, (request: ServerRequest) => ServerReply | string>> = {
  "scripted-search-r1": searchR1,
  "scripted-asearcher": asearcher,
  "scripted-agentflow": agentflow,
  "scripted-owl": owl,
  "scripted-miroflow": miroflow,
  "scripted-tools": withTools,
};

/** @param port 0 = any that is free */
export function startScriptedModels(port: number = scriptedModelsPort): Promise<ScriptedServer> {
  return ScriptedServer.start({
    port,
    maxKept: 0,
    script: (request) => {
      const model = models[String(request.body.model)];
      return model?.(request) ?? { fault: "status", status: 404, body: `no model ${String(request.body.model)}` };
    },
  });
}

/** What a text asks for, and how rows of that kind look. */
interface Question {
  queries: string[];
  /** Regions, or the subject of a fact. */
  subjects: string[];
  answer(text: string): string;
  rows(text: string): string[];
}

function readQuestion(text: string): Question {
  const table = /[Aa]ll (\w+)s in ([^.:\n]+)\. Columns: ([^\n"<]+)/.exec(text);
  if (table !== null) {
    const [, singular = "", regions = "", columns = ""] = table;
    const subjects = regions.split(", ").map((region) => region.trim());
    const heads = columns.trim().split(", ");
    const rows = (from: string): string[] => {
      const lines = unescaped(from).match(/^\|[^\n]+\|$/gm) ?? [];
      return [
        ...new Set(
          lines.filter(
            (line) => subjects.includes(line.split("|")[2] ?? "") && line.split("|").length === heads.length + 2,
          ),
        ),
      ];
    };
    const answer = (from: string): string => {
      const head = [heads, heads.map(() => "---")].map((cells) => `|${cells.join("|")}|`);
      return `\`\`\`markdown\n${[...head, ...rows(from)].join("\n")}\n\`\`\``;
    };
    // The words of the columns tell the pages of the things from the lists of them.
    const queries = subjects.map((region) => `${region} ${singular} ${heads.slice(2).join(" ")}`);
    return { queries, subjects, answer, rows };
  }
  const [, attribute = "", singular = "", name = ""] = /([A-Z]\w+) of the (\w+) ([A-Z]\w+)/.exec(text) ?? [];
  const fact = (from: string): string => new RegExp(`${attribute}: (\\w+)\\.`).exec(from)?.[1] ?? "unknown";
  const rows = (from: string): string[] => [`${attribute}: ${fact(from)}.`];
  return { queries: [`The ${singular} ${name}`], subjects: [name], answer: fact, rows };
}

/** JSON inside a prompt has its line breaks escaped. */
const unescaped = (text: string): string => text.replaceAll("\\n", "\n");
const numOf = (text: string, part: string): number => text.split(part).length - 1;

function searchR1({ messages }: ServerRequest): string {
  const question = readQuestion(messages[0]?.content ?? "");
  const turn = messages[1]?.content ?? "";
  const numSearches = numOf(turn, "</search>");
  const query = question.queries[numSearches];
  if (query !== undefined && numSearches < 4) return `<think>Next: ${query}.</think>\n<search>${query}</search>`;
  return `<think>That is all I may look up.</think>\n<answer>${question.answer(turn)}</answer>`;
}

function asearcher({ prompt }: ServerRequest): string {
  const [asked = "", done = ""] = prompt.split("\nAssistant:");
  const question = readQuestion(asked.split("User: ").at(-1) ?? "");
  if (done.endsWith("</information>\n\n<think>\n")) return "Noted.</think>";
  const opening = done.trim() === "<think>" ? "Region by region.</think>\n" : "";
  const query = question.queries[numOf(done, "</search>")];
  if (query !== undefined) return `${opening}<search>${query}</search>`;
  return `${opening}<answer>${question.answer(done)}</answer>`;
}

function agentflow({ messages }: ServerRequest): string {
  const prompt = messages.at(-1)?.content ?? "";
  const question = readQuestion(prompt);
  const numSteps = numOf(prompt, '"Action Step ');
  if (prompt.startsWith("You prepare"))
    return JSON.stringify({
      concise_summary: "a table",
      required_skills: "search",
      relevant_tools: "Google_Search",
      additional_considerations: "none",
    });
  if (prompt.startsWith("You plan")) {
    const goal = question.queries[Math.min(numSteps, question.queries.length - 1)];
    return `Justification: it is still open\nContext: region by region\nSub-Goal: ${goal}\nTool Name: Google_Search`;
  }
  if (prompt.startsWith("You write the command")) {
    const query = /Goal of the step: ([^\n]*)/.exec(prompt)?.[1] ?? "";
    return JSON.stringify({ analysis: "a search", explanation: "it finds the pages", command: { query } });
  }
  if (prompt.startsWith("You decide"))
    return JSON.stringify({ analysis: "counted", stop_signal: numSteps >= question.queries.length });
  const answer = question.answer(prompt);
  return `1. Process Summary\nThe regions were searched.\n2. Answer\n${answer.startsWith("```") ? answer : `<answer>${answer}</answer>`}`;
}

/** The question for some of its subjects only. */
function subtask(text: string, half: 0 | 1): string {
  const table = /All (\w+) in ([^.:\n]+)\. Columns: ([^\n"<]+)/.exec(text);
  if (table === null)
    return half === 0 ? `Find: ${/([A-Z]\w+ of the \w+ [A-Z]\w+)/.exec(text)?.[1] ?? ""}` : "Check the result.";
  const [, kind = "", regions = "", columns = ""] = table;
  const all = regions.split(", ");
  const middle = Math.ceil(all.length / 2);
  const some = half === 0 ? all.slice(0, middle) : all.slice(middle);
  return `All ${kind} in ${some.join(", ")}. Columns: ${columns.trim()}`;
}

function owl({ messages, body }: ServerRequest): ServerReply | string {
  const prompt = messages.find(({ role }) => role === "user")?.content ?? "";
  if (prompt.startsWith("You split"))
    return `<tasks>\n${([0, 1] as const).map((half) => `<task>${subtask(prompt, half)}</task>`).join("\n")}\n</tasks>`;
  if (prompt.startsWith("Decide")) return JSON.stringify({ assignee_id: "1" });
  const question = readQuestion(prompt);
  if (prompt.startsWith("Others")) return question.answer(prompt);
  const results = messages.filter(({ role }) => role === "tool").map(({ content }) => content);
  const query = question.queries[results.length];
  if (query !== undefined && body.tools !== undefined)
    return { toolCalls: [{ name: "search_google", arguments: { query } }] };
  return JSON.stringify({ content: question.rows(results.join("\n")).join("\n"), failed: false });
}

function miroflow({ messages }: ServerRequest): string {
  const [system, first] = messages;
  const last = messages.at(-1)?.content ?? "";
  const question = readQuestion(first?.content ?? "");
  const results = messages
    .slice(2)
    .filter(({ role }) => role === "user")
    .map(({ content }) => content);
  const call = (server: string, tool: string, value: object): string =>
    `Next step.\n<use_mcp_tool>\n<server_name>${server}</server_name>\n<tool_name>${tool}</tool_name>\n<arguments>\n${JSON.stringify(value)}\n</arguments>\n</use_mcp_tool>`;
  if (last.includes("on your subtask is over")) return question.rows(results.join("\n")).join("\n");
  if (last.includes("The work is over")) {
    const answer = question.answer(results.join("\n"));
    return answer.startsWith("```") ? answer : `\\boxed{${answer}}`;
  }
  const isMain = system?.content.includes("execute_subtask") ?? false;
  const half = results.length;
  if (isMain && half < 2 && half < question.subjects.length) {
    return call("agent-worker", "execute_subtask", { subtask: subtask(first?.content ?? "", half as 0 | 1) });
  }
  const query = isMain ? undefined : question.queries[results.length];
  return query === undefined ? "Everything is found." : call("tool-searching", "google_search", { q: query });
}

/** A single agent with native function calls: what DeepSeek-R1 does in its row. */
function withTools({ messages }: ServerRequest): ServerReply | string {
  const question = readQuestion(messages.find(({ role }) => role === "user")?.content ?? "");
  const results = messages.filter(({ role }) => role === "tool").map(({ content }) => content);
  const query = question.queries[results.length];
  if (query !== undefined && !(results.at(-1) ?? "").includes("Last turn")) {
    return { reasoning: `Next: ${query}.`, toolCalls: [{ name: "search", arguments: { query, count: 5 } }] };
  }
  const answer = question.answer(results.join("\n"));
  return answer.startsWith("```") ? answer : `\\boxed{${answer}}`;
}
