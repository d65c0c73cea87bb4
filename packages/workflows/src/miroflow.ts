// MiroFlow (MiroMind 2025): a main agent that hands subtasks to a worker by tool calls in XML, each with a forced summary at
// its end. Owns that protocol's loop, its dropped results and its retreat from a full context.
import { type ChatMessage, countCalls } from "@wideseek/spec";
import { z } from "zod";
import { type AgentRecord, AgentStopped, messagesText } from "./agent-record.ts";
import { type McpCall, readMcpCalls } from "./mcp-call.ts";
import { type McpServer, omitted, summaryPrompt, systemPrompt, wrongCall } from "./miroflow-prompts.ts";
import { isListed, mainServers, runWorkerTool, workerServers } from "./miroflow-tools.ts";
import { commonShape, count } from "./options.ts";
import type { Session } from "./session.ts";
import type { Workflow } from "./workflow.ts";

const optionsSchema = z.strictObject({
  ...commonShape,
  maxTurns: count(10_000).default(50).describe("Replies of the main agent, and of each worker, before its summary."),
  maxToolCallsPerTurn: count(1000).default(10).describe("Calls of one message that are carried out."),
  replyTokens: count().default(4096).describe("Most tokens of one reply."),
  keepToolResults: z.int().min(-1).default(-1).describe("Newest results that stay in the conversation; -1 = all."),
  date: z.iso.date().nullable().default(null).describe("Date that the agents are told; null = today."),
  numHits: count(100).default(10).describe("Pages of a search that are shown."),
  hitCharacters: count().default(500).describe("Characters of each page that a search shows."),
  pageCharacters: count().default(25_000).describe("Characters of a page that are shown."),
  temperature: z.number().min(0).default(0.3).describe("Sampling temperature; 0 = greedy."),
  mainTopP: z.number().gt(0).max(1).default(0.95).describe("Nucleus of the main agent's sampling; 1 = off."),
  workerTopP: z.number().gt(0).max(1).default(1).describe("Nucleus of the worker's sampling; 1 = off."),
});
export type MiroflowOptions = z.output<typeof optionsSchema>;

/** Main agent or worker. */
interface Level {
  name: "main" | "worker";
  record: AgentRecord;
  /** The question, or the subtask. */
  request: string;
  servers: readonly McpServer[];
  runCall(call: McpCall): Promise<string>;
}

export const miroflow: Workflow<MiroflowOptions> = {
  name: "miroflow",
  team: "mas",
  roles: ["main", "worker"],
  options: optionsSchema,
  async run(session, options) {
    const { task, main } = session;
    return await runLevel(session, options, {
      name: "main",
      record: main,
      request: task.question,
      servers: mainServers,
      runCall: (call) => delegated(session, options, call),
    });
  },
};

const subtaskSchema = z.object({ subtask: z.string().trim().min(1) });

/** The worker's report, or why there is none. */
async function delegated(session: Session, options: MiroflowOptions, call: McpCall): Promise<string> {
  const { main } = session;
  const parsed = subtaskSchema.safeParse(call.arguments);
  if (!isListed(mainServers, call) || !parsed.success) {
    main.malformed("wrong call");
    return 'There is no such tool, or it was given no subtask. The call: server agent-worker, tool execute_subtask, arguments {"subtask": "..."}.';
  }
  countCalls(main.trajectory, { numSubagentCalls: 1 });
  const { subtask } = parsed.data;
  const record = session.agent(String(main.trajectory.numSubagentCalls), subtask);
  try {
    const report = await runLevel(session, options, {
      name: "worker",
      record,
      request: subtask,
      servers: workerServers,
      runCall: (inner) => runWorkerTool(session, options, record, inner),
    });
    record.trajectory.answer = report;
    return report;
  } catch (error) {
    if (!(error instanceof AgentStopped)) throw error;
    record.stop(error);
    if (error.reason === "timeout") throw error;
    return `The worker could not finish: ${error.message}`;
  }
}

/** One agent to its end: calls until there are none or the limit is reached, then the forced summary. */
async function runLevel(session: Session, options: MiroflowOptions, level: Level): Promise<string> {
  const date = options.date ?? new Date().toISOString().slice(0, 10);
  const messages: ChatMessage[] = [
    { role: "system", content: systemPrompt(level.name, date, level.servers) },
    { role: "user", content: numbered(0, level.request) },
  ];
  let limitReached = true;
  let news = messagesText(messages);
  for (let turn = 1; turn <= options.maxTurns; turn++) {
    let text: string;
    try {
      text = await reply(session, options, level, messages, news);
    } catch (error) {
      if (!(error instanceof AgentStopped) || error.reason !== "context") throw error;
      level.record.note(error.message);
      break;
    }
    messages.push({ role: "assistant", content: text });
    const { calls, errors } = readMcpCalls(text);
    if (calls.length === 0 && errors.length === 0) {
      limitReached = false;
      break;
    }
    for (const error of errors) level.record.malformed(error);
    const results: string[] = [];
    for (const call of calls.slice(0, options.maxToolCallsPerTurn)) results.push(await level.runCall(call));
    if (calls.length === 0) results.push(wrongCall(errors));
    news = numbered(turn, results.join("\n\n"));
    messages.push({ role: "user", content: news });
  }
  return await summary(session, options, level, messages, limitReached);
}

async function reply(
  session: Session,
  options: MiroflowOptions,
  level: Level,
  messages: readonly ChatMessage[],
  news: string,
  maxTokens: number = options.replyTokens,
): Promise<string> {
  const topP = level.name === "main" ? options.mainTopP : options.workerTopP;
  const request = {
    messages: withoutOldResults(messages, options.keepToolResults),
    maxTokens,
    temperature: options.temperature,
    topP,
  };
  return (await level.record.chat(session.model(level.name), request, news)).text;
}

/** A context that is full loses its last exchange and is asked again, down to the request itself. */
async function summary(
  session: Session,
  options: MiroflowOptions,
  level: Level,
  messages: readonly ChatMessage[],
  limitReached: boolean,
): Promise<string> {
  const { task } = session;
  const whole = [...messages];
  let overflowed = false;
  for (;;) {
    const prompt = summaryPrompt(level.name, task, level.request, limitReached || overflowed);
    const last = whole.at(-1);
    // Two messages of the user in a row are one to many templates.
    const asked: ChatMessage[] =
      last?.role === "user"
        ? [...whole.slice(0, -1), { role: "user", content: `${last.content}\n\n${prompt}` }]
        : [...whole, { role: "user", content: prompt }];
    const maxTokens = task.kind === "table" ? Math.max(options.replyTokens, options.tableTokens) : options.replyTokens;
    try {
      return await reply(session, options, level, asked, prompt, maxTokens);
    } catch (error) {
      if (!(error instanceof AgentStopped) || error.reason !== "context" || whole.length <= 2) throw error;
      level.record.note(error.message);
      overflowed = true;
      // The last exchange is the assistant's message and what answered it, if anything did.
      const from = whole.findLastIndex((message) => message.role === "assistant");
      whole.splice(Math.max(2, from));
    }
  }
}

/** The user's messages after the request are results; all but the newest ones make room. */
function withoutOldResults(messages: readonly ChatMessage[], numKept: number): ChatMessage[] {
  if (numKept < 0) return [...messages];
  const results = messages.flatMap(({ role }, index) => (role === "user" && index > 1 ? [index] : []));
  const dropped = new Set(results.slice(0, Math.max(0, results.length - numKept)));
  return messages.map((message, index): ChatMessage => {
    return dropped.has(index) ? { role: "user", content: numbered(index, omitted) } : message;
  });
}

/** Messages are numbered, so that equal ones can be told apart. */
function numbered(index: number, content: string): string {
  return `[msg_${String(index).padStart(4, "0")}] ${content}`;
}
