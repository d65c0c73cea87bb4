// Search-R1 (Jin et al. 2025): one agent that thinks, searches and answers in tags within one turn of its own. Owns the
// protocol of its evaluation: few searches, short observations, a context that is cut from the left.
import type { ChatMessage, Task } from "@wideseek/spec";
import { z } from "zod";
import { AgentStopped } from "./agent-record.ts";
import { tableForm } from "./answer-form.ts";
import { commonShape, count } from "./options.ts";
import type { Session } from "./session.ts";
import { firstTag } from "./tags.ts";
import { cutToTokens } from "./token-cut.ts";
import type { Workflow } from "./workflow.ts";

const optionsSchema = z.strictObject({
  ...commonShape,
  maxSearches: count(1000).default(4).describe("Turns that may search; one more follows in which nothing is searched."),
  topK: count(100).default(3).describe("Pages of a search that are shown."),
  responseTokens: count().default(500).describe("Most tokens of one reply."),
  observationTokens: count().default(500).describe("Most tokens of what one search shows."),
  contextTokens: count().default(4096).describe("Most tokens of a prompt; older text is cut away from its left."),
  temperature: z.number().min(0).default(0).describe("Sampling temperature; 0 = greedy."),
  prompting: z
    .enum(["chat", "plain"])
    .default("chat")
    .describe("chat: within the model's chat template, for servers that continue a turn; plain: as one plain text."),
});
type Options = z.output<typeof optionsSchema>;

const actions = ["search", "answer"];
const stop = ["</search>", "</answer>"];

export const searchR1: Workflow<Options> = {
  name: "search-r1",
  team: "sa",
  roles: ["agent"],
  options: optionsSchema,
  async run(session, options) {
    const { main, task } = session;
    const question = prompt(task);
    let turn = "";
    let news = question;
    for (let number = 0; number <= options.maxSearches; number++) {
      const said = await reply(session, options, question, turn, news);
      const action = firstTag(said, actions);
      turn += action?.upToEnd ?? said;
      if (action?.tag.name === "answer") return action.tag.content;
      if (number === options.maxSearches) break;
      if (action === undefined) main.malformed("neither a search nor an answer");
      news = action === undefined ? correction : await observation(session, options, action.tag.content);
      turn += news;
    }
    throw new AgentStopped("turns", `no answer after ${options.maxSearches} searching turns and the last one`);
  },
};

async function reply(
  session: Session,
  options: Options,
  question: string,
  turn: string,
  news: string,
): Promise<string> {
  const { main, task } = session;
  const counted = (text: string): number | Promise<number> => session.countTokens("agent", text);
  const kept = await cutToTokens(question + turn, options.contextTokens, "last", counted);
  const maxTokens =
    task.kind === "table" ? Math.max(options.responseTokens, options.tableTokens) : options.responseTokens;
  const settings = { maxTokens, temperature: options.temperature, stop };
  const model = session.model("agent");
  if (options.prompting === "plain") return (await main.complete(model, kept, settings, news)).text;
  const keptTurn = turn.slice(Math.max(0, turn.length - kept.length));
  const messages: ChatMessage[] = [{ role: "user", content: kept.slice(0, kept.length - keptTurn.length) }];
  if (keptTurn !== "") messages.push({ role: "assistant", content: keptTurn });
  const { thinking, text } = await main.chat(model, { messages, continueLast: keptTurn !== "", ...settings }, news);
  return thinking === "" ? text : `<think>\n${thinking}\n</think>\n${text}`;
}

async function observation(session: Session, options: Options, query: string): Promise<string> {
  const { main } = session;
  const looked = await session.search(main, query, options.topK);
  const text =
    "failure" in looked
      ? `The search failed: ${looked.failure}`
      : looked.found.map((hit, index) => `Doc ${index + 1}(Title: ${hit.title}) ${hit.contents}\n`).join("");
  const shown = await cutToTokens(text, options.observationTokens, "first", (part) =>
    session.countTokens("agent", part),
  );
  return `\n\n<information>${shown.trim()}</information>\n\n`;
}

const correction =
  "\nThat was neither a search nor an answer. To look something up, put the query between <search> and </search>. " +
  "To answer, put the answer between <answer> and </answer>. Once more.\n";

function prompt(task: Task): string {
  const question = task.question.trim();
  const asked = question.endsWith("?") || task.kind === "table" ? question : `${question}?`;
  const form =
    task.kind === "table"
      ? `When nothing is missing any more, put the whole answer between <answer> and </answer>: ${tableForm(task)}.`
      : "When nothing is missing any more, put the answer alone between <answer> and </answer>, for instance <answer> Lisbon </answer>.";
  return (
    "Find the answer to the question below. Whenever you have learned something new, think about it first, between " +
    "<think> and </think>. If knowledge is missing then, ask a search engine by <search> your query </search>; its best " +
    "results come back between <information> and </information>. You may search as often as you need. " +
    `${form}\nQuestion: ${asked}\n`
  );
}
