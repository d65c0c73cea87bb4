// AgentFlow (Li et al. 2025): planner, executor, verifier and generator that share a memory of steps and no conversation.
// Owns that protocol without Python: commands are JSON, the tools are search, pages and the model itself.
import type { ChatReply } from "@wideseek/spec";
import { z } from "zod";
import type { AgentRecord } from "./agent-record.ts";
import {
  analysisPrompt,
  answerPrompt,
  commandPrompt,
  type PlannerTool,
  planPrompt,
  verificationPrompt,
} from "./agentflow-prompts.ts";
import { relevantChunks } from "./chunks.ts";
import { jsonReply } from "./json-reply.ts";
import { commonShape, count } from "./options.ts";
import type { Session } from "./session.ts";
import { lastTag } from "./tags.ts";
import { wholeCharacters } from "./token-cut.ts";
import type { Workflow } from "./workflow.ts";

const optionsSchema = z.strictObject({
  ...commonShape,
  maxSteps: count(1000).default(10).describe("Steps of plan, command and check."),
  loopSeconds: z.number().positive().default(300).describe("Seconds after which no further step begins."),
  replyTokens: count().default(2048).describe("Most tokens of a reply that is no final answer."),
  answerTokens: count().default(8192).describe("Most tokens of the final answer."),
  numHits: count(100).default(10).describe("Pages of a search that are shown."),
  hitCharacters: count().default(1000).describe("Characters of each page that a search shows."),
  resultCharacters: count().default(12_000).describe("Characters of a step's result that stay in the memory."),
  chunkWords: count().default(200).describe("Words of a part of a page."),
  overlapWords: z.int().min(0).default(20).describe("Words that neighbouring parts share."),
  maxChunks: count().default(10).describe("Parts of a page that are shown, the best ones."),
  temperature: z.number().min(0).default(0).describe("Sampling temperature; 0 = greedy."),
});
type Options = z.output<typeof optionsSchema>;
type Role = "planner" | "fixed" | "verifier" | "executor";

const tools: readonly PlannerTool[] = [
  {
    name: "Base_Generator",
    use: "answers or reasons from what it is told, without looking anything up",
    command: '{"query": "..."}',
  },
  {
    name: "Google_Search",
    use: "searches the web and shows the beginnings of the best pages with their addresses",
    command: '{"query": "..."}',
  },
  {
    name: "Wikipedia_Search",
    use: "finds the page of an encyclopaedia on a subject and shows the parts that fit",
    command: '{"query": "..."}',
  },
  {
    name: "Web_Search",
    use: "opens one page by its address and shows the parts that speak of the query",
    command: '{"query": "...", "url": "..."}',
  },
];

const analysisSchema = z.object({
  concise_summary: z.string(),
  required_skills: z.string(),
  relevant_tools: z.string(),
  additional_considerations: z.string(),
});
const planSchema = z.object({ context: z.string(), sub_goal: z.string(), tool_name: z.string() });
const commandSchema = z.object({ command: z.object({ query: z.string().min(1), url: z.string().nullish() }) });
const verdictSchema = z.object({ analysis: z.string().optional(), stop_signal: z.boolean() });

interface Step {
  tool_name: string;
  sub_goal: string;
  command: unknown;
  result: string;
}

/** Stateless calls of the roles, each with a record of its own. */
class Team {
  readonly #session: Session;
  readonly #options: Options;
  readonly #records: Readonly<Record<Role, AgentRecord>>;

  constructor(session: Session, options: Options) {
    this.#session = session;
    this.#options = options;
    this.#records = {
      fixed: session.main,
      planner: session.agent("planner", "plans the next step"),
      executor: session.agent("executor", "writes and runs the command of a step"),
      verifier: session.agent("verifier", "decides whether the results are enough"),
    };
  }

  record(role: Role): AgentRecord {
    return this.#records[role];
  }

  async ask(role: Role, prompt: string, more: { maxTokens?: number; schema?: z.ZodType } = {}): Promise<ChatReply> {
    const { replyTokens, temperature } = this.#options;
    const { maxTokens = replyTokens, schema } = more;
    const jsonSchema = schema && { name: role, schema: z.toJSONSchema(schema) as Record<string, unknown> };
    const messages = [{ role: "user", content: prompt } as const];
    return await this.#records[role].chat(
      this.#session.model(role),
      { messages, maxTokens, temperature, jsonSchema },
      prompt,
    );
  }
}

export const agentflow: Workflow<Options> = {
  name: "agentflow",
  team: "mas",
  roles: ["planner", "fixed", "verifier", "executor"],
  options: optionsSchema,
  async run(session, options) {
    const { task } = session;
    const team = new Team(session, options);
    const start = performance.now();
    const analysis = (await team.ask("fixed", analysisPrompt(task, tools), { schema: analysisSchema })).text;
    const steps: Step[] = [];
    while (steps.length < options.maxSteps && (performance.now() - start) / 1000 < options.loopSeconds) {
      steps.push(await nextStep(session, team, options, analysis, steps));
      if (await isEnough(session, team, analysis, steps)) break;
    }
    const answer = await team.ask("fixed", answerPrompt(task, memoryText(steps)), { maxTokens: options.answerTokens });
    if (task.kind === "table") return answer.text;
    return lastTag(answer.text, "answer") ?? answer.text.split(/2\. Answer\W*/).at(-1) ?? "";
  },
};

async function nextStep(
  session: Session,
  team: Team,
  options: Options,
  analysis: string,
  steps: readonly Step[],
): Promise<Step> {
  const { task } = session;
  const memory = memoryText(steps);
  const step = steps.length + 1;
  const reply = await team.ask(
    "planner",
    planPrompt(task, { analysis, tools, memory, step, maxSteps: options.maxSteps }),
  );
  const plan = readPlan(reply.text);
  const tool = tools.find(({ name }) => canonical(name) === canonical(plan.tool));
  const done = (command: unknown, result: string): Step => ({
    tool_name: tool?.name ?? plan.tool,
    sub_goal: plan.subGoal,
    command,
    result: wholeCharacters(result, options.resultCharacters),
  });
  if (tool === undefined) {
    team.record("planner").malformed(`no tool ${JSON.stringify(wholeCharacters(plan.tool, 100))}`);
    return done("", `No matched tool given: ${plan.tool}`);
  }
  const written = await team.ask("executor", commandPrompt(task, plan, tool), { schema: commandSchema });
  const parsed = jsonReply(written.text, commandSchema);
  if (parsed === undefined) {
    team.record("executor").malformed("the command is no JSON object with a query");
    return done("", "The command could not be read, so nothing was run.");
  }
  return done(parsed.command, await runTool(session, team, options, tool.name, parsed.command));
}

/** As a JSON object or in the labelled form, of which the last one counts. */
function readPlan(text: string): { context: string; subGoal: string; tool: string } {
  const json = jsonReply(text, planSchema);
  if (json !== undefined) return { context: json.context, subGoal: json.sub_goal, tool: json.tool_name };
  const plain = text.replaceAll("**", "");
  const matches = [...plain.matchAll(/Context:((?:(?!Context:)[\s\S])*?)Sub-Goal:([\s\S]*?)Tool Name:\s*([^\n]*)/g)];
  const [, context = "", subGoal = "", tool = ""] = matches.at(-1) ?? [];
  return { context: context.trim(), subGoal: subGoal.trim(), tool: tool.replaceAll(/[`"'.]/g, "").trim() };
}

function canonical(name: string): string {
  const words = name
    .toLowerCase()
    .split(/[\s_]+/)
    .filter((word) => word !== "");
  return (words.at(-1) === "tool" ? words.slice(0, -1) : words).join("_");
}

async function runTool(
  session: Session,
  team: Team,
  options: Options,
  name: string,
  command: { query: string; url?: string | null | undefined },
): Promise<string> {
  const record = team.record("executor");
  const { query } = command;
  const failed = (failure: string): string => `The tool failed: ${failure}`;
  if (name === "Base_Generator") return (await team.ask("fixed", query)).text;
  if (name === "Web_Search") {
    if (!command.url) return "Web_Search needs the address of a page; find one with Google_Search.";
    const looked = await session.access(record, command.url);
    if ("failure" in looked) return failed(looked.failure);
    if (looked.found === "") return `There is no page ${command.url}.`;
    return relevantChunks(looked.found, query, options).join("\n...\n");
  }
  const numHits = name === "Wikipedia_Search" ? 1 : options.numHits;
  const looked = await session.search(record, query, numHits);
  if ("failure" in looked) return failed(looked.failure);
  if (looked.found.length === 0) return "Nothing was found.";
  if (name === "Google_Search") {
    const shown = looked.found.map(({ url, title, contents }) => {
      return `${title}\n${url}\n${wholeCharacters(contents, options.hitCharacters)}`;
    });
    return shown.join("\n\n");
  }
  const [hit] = looked.found;
  const page = await session.access(record, hit?.url ?? "");
  const text = "found" in page && page.found !== "" ? page.found : (hit?.contents ?? "");
  return `${hit?.title}\n${hit?.url}\n${relevantChunks(text, query, options).join("\n...\n")}`;
}

async function isEnough(session: Session, team: Team, analysis: string, steps: readonly Step[]): Promise<boolean> {
  const memory = memoryText(steps);
  const prompt = verificationPrompt(session.task, { analysis, tools, memory });
  const { text } = await team.ask("verifier", prompt, { schema: verdictSchema });
  const verdict = jsonReply(text, verdictSchema);
  if (verdict !== undefined) return verdict.stop_signal;
  const conclusion = [...text.matchAll(/\b(STOP|CONTINUE)\b/g)].at(-1)?.[1];
  if (conclusion === undefined) team.record("verifier").malformed("no verdict");
  return conclusion === "STOP";
}

function memoryText(steps: readonly Step[]): string {
  if (steps.length === 0) return "none yet";
  return JSON.stringify(Object.fromEntries(steps.map((step, index) => [`Action Step ${index + 1}`, step])), null, 1);
}
