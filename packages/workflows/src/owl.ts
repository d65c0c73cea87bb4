// OWL's workforce (Hu et al. 2025): a planner splits the question, a coordinator hands the subtasks to workers with native
// function calls, and an answerer brings the results into form. Owns that protocol's order and its second attempt.
import { type ChatMessage, type ChatToolCall, countCalls } from "@wideseek/spec";
import { z } from "zod";
import { type AgentRecord, AgentStopped, messagesText } from "./agent-record.ts";
import { jsonReply } from "./json-reply.ts";
import { commonShape, count } from "./options.ts";
import {
  answererPrompt,
  assignPrompt,
  decomposePrompt,
  replanPrompt,
  resultOnly,
  type WorkerKind,
  workerSystem,
  workPrompt,
} from "./owl-prompts.ts";
import { owlTools, runOwlTool } from "./owl-tools.ts";
import type { Session } from "./session.ts";
import type { Workflow } from "./workflow.ts";

const optionsSchema = z.strictObject({
  ...commonShape,
  maxAttempts: count(100).default(2).describe("Plans that are tried: a failed subtask makes the planner begin anew."),
  maxSubtasks: count(1000).default(20).describe("Subtasks of a plan; further ones are dropped."),
  maxToolCalls: count(10_000).default(15).describe("Tool calls of a worker; the one after the last ends its work."),
  replyTokens: count().default(4096).describe("Most tokens of one reply."),
  numHits: count(100).default(5).describe("Pages of a search that are shown."),
  hitCharacters: count().default(1000).describe("Characters of each page that a search shows."),
  pageCharacters: count().default(25_000).describe("Characters of a page that are shown."),
  temperature: z.number().min(0).default(0).describe("Sampling temperature; 0 = greedy."),
});
export type OwlOptions = z.output<typeof optionsSchema>;

const workers: readonly WorkerKind[] = [
  {
    id: "1",
    name: "Web Agent",
    description: "It searches the web and an encyclopaedia and reads pages by their addresses.",
    tools: ["search_google", "search_wiki", "extract_document_content"],
  },
  {
    id: "2",
    name: "Document Processing Agent",
    description: "It reads a page or document whose address is known and takes out what is asked for.",
    tools: ["extract_document_content"],
  },
];

const assignmentSchema = z.object({ assignee_id: z.union([z.string(), z.number()]) });
const resultSchema = z.object({ content: z.string(), failed: z.boolean().optional() });

interface Result {
  subtask: string;
  content: string;
  failed: boolean;
}

export const owl: Workflow<OwlOptions> = {
  name: "owl",
  team: "mas",
  roles: ["planner", "coordinator", "worker", "answerer"],
  options: optionsSchema,
  async run(session, options) {
    const { task, main } = session;
    const ask = asking(session, options);
    const planner = session.agent("planner", "splits the question into subtasks");
    const coordinator = session.agent("coordinator", "hands subtasks to workers");
    let results: Result[] = [];
    for (let attempt = 1; attempt <= options.maxAttempts; attempt++) {
      const prompt = attempt === 1 ? decomposePrompt(task, workers) : replanPrompt(task, workers, resultsText(results));
      const subtasks = readSubtasks(await ask(planner, "planner", prompt), task.question, planner);
      results = [];
      for (const subtask of subtasks.slice(0, options.maxSubtasks)) {
        const assigned = await ask(coordinator, "coordinator", assignPrompt(subtask, workers), assignmentSchema);
        const worker = readAssignment(assigned, coordinator);
        const result = await work(session, options, { worker, subtask, results });
        results.push(result);
        if (result.failed) break;
      }
      if (!results.at(-1)?.failed) break;
    }
    const maxTokens = task.kind === "table" ? Math.max(options.replyTokens, options.tableTokens) : options.replyTokens;
    return await ask(main, "answerer", answererPrompt(task, resultsText(results)), undefined, maxTokens);
  },
};

/** Stateless questions to planner, coordinator and answerer. */
function asking(session: Session, { temperature, replyTokens }: OwlOptions) {
  return async (
    record: AgentRecord,
    role: string,
    prompt: string,
    schema?: z.ZodType,
    maxTokens: number = replyTokens,
  ): Promise<string> => {
    const messages = [{ role: "user", content: prompt } as const];
    const jsonSchema = schema && { name: role, schema: z.toJSONSchema(schema) as Record<string, unknown> };
    const { text } = await record.chat(session.model(role), { messages, maxTokens, temperature, jsonSchema }, prompt);
    return text;
  };
}

function readSubtasks(text: string, question: string, planner: AgentRecord): string[] {
  const subtasks = [...text.matchAll(/<task>([\s\S]*?)<\/task>/g)].map((match) => (match[1] ?? "").trim());
  const written = subtasks.filter((subtask) => subtask !== "");
  if (written.length > 0) return written;
  planner.malformed("no subtasks; the question stays whole");
  return [question];
}

function readAssignment(text: string, coordinator: AgentRecord): WorkerKind {
  const id = String(jsonReply(text, assignmentSchema)?.assignee_id ?? "").trim();
  const worker = workers.find((each) => each.id === id);
  if (worker !== undefined) return worker;
  coordinator.malformed(`no worker ${JSON.stringify(id.slice(0, 100))}; the first one is taken`);
  return workers[0] as WorkerKind;
}

async function work(
  session: Session,
  options: OwlOptions,
  { worker, subtask, results }: { worker: WorkerKind; subtask: string; results: readonly Result[] },
): Promise<Result> {
  countCalls(session.main.trajectory, { numSubagentCalls: 1 });
  const record = session.agent(String(session.main.trajectory.numSubagentCalls), subtask);
  try {
    const text = await workerReply(
      session,
      options,
      record,
      worker,
      workPrompt(session.task, subtask, resultsText(results)),
    );
    record.trajectory.answer = text;
    const parsed = jsonReply(text, resultSchema);
    if (parsed === undefined) record.malformed("the result is no JSON object");
    if (parsed === undefined && text.trim() === "") return { subtask, content: "no result was written", failed: true };
    return { subtask, content: parsed?.content ?? text.trim(), failed: parsed?.failed ?? false };
  } catch (error) {
    // Time is over for the whole team; a full context or an unreachable model fails the subtask.
    if (!(error instanceof AgentStopped)) throw error;
    record.stop(error);
    if (error.reason === "timeout") throw error;
    return { subtask, content: `the worker stopped: ${error.message}`, failed: true };
  }
}

/** The worker's last message, after at most `maxToolCalls` tool calls and the one that was too many. */
async function workerReply(
  session: Session,
  options: OwlOptions,
  record: AgentRecord,
  worker: WorkerKind,
  prompt: string,
): Promise<string> {
  const { temperature, replyTokens, tableTokens, maxToolCalls } = options;
  const maxTokens = session.task.kind === "table" ? Math.max(replyTokens, tableTokens) : replyTokens;
  const tools = owlTools(worker.tools);
  const model = session.model("worker");
  const messages: ChatMessage[] = [
    { role: "system", content: workerSystem(worker) },
    { role: "user", content: prompt },
  ];
  let news = messagesText(messages);
  let numCalls = 0;
  while (numCalls <= maxToolCalls) {
    const reply = await record.chat(model, { messages: messages.slice(), tools, maxTokens, temperature }, news);
    for (const error of reply.callErrors) record.malformed(error);
    if (reply.toolCalls.length === 0 && reply.callErrors.length === 0) return reply.text;
    messages.push({ role: "assistant", content: reply.text, toolCalls: reply.toolCalls });
    const answers: ChatMessage[] = [];
    for (const call of reply.toolCalls) answers.push(await answered(session, options, record, worker, call));
    if (reply.callErrors.length > 0) answers.push({ role: "user", content: reply.callErrors.join("\n") });
    numCalls += Math.max(1, reply.toolCalls.length);
    messages.push(...answers);
    news = messagesText(answers);
  }
  messages.push({ role: "user", content: resultOnly });
  return (await record.chat(model, { messages, maxTokens, temperature }, `[user]\n${resultOnly}`)).text;
}

async function answered(
  session: Session,
  options: OwlOptions,
  record: AgentRecord,
  worker: WorkerKind,
  call: ChatToolCall,
): Promise<ChatMessage> {
  const content = worker.tools.includes(call.name)
    ? await runOwlTool(session, options, record, call)
    : `There is no tool ${JSON.stringify(call.name)}; yours are ${worker.tools.join(", ")}.`;
  return { role: "tool", toolCallId: call.id, content };
}

function resultsText(results: readonly Result[]): string {
  if (results.length === 0) return "none";
  return results
    .map(({ subtask, content, failed }, index) => {
      return `Subtask ${index + 1}: ${subtask}\n${failed ? "It failed" : "Result"}: ${content}`;
    })
    .join("\n\n");
}
