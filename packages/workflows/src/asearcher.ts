// ASearcher (Gao et al. 2025), the agent for models without reasoning: one plain text in which the agent thinks, searches
// and opens pages by tags, and reads what comes back in steps of its own. Owns that protocol's evaluation.
import type { Task } from "@wideseek/spec";
import { z } from "zod";
import { AgentStopped } from "./agent-record.ts";
import { tableForm } from "./answer-form.ts";
import { commonShape, count } from "./options.ts";
import type { Session } from "./session.ts";
import { firstTag } from "./tags.ts";
import { wholeCharacters } from "./token-cut.ts";
import type { Workflow } from "./workflow.ts";

const optionsSchema = z.strictObject({
  ...commonShape,
  maxTurns: count(10_000).default(64).describe("Replies of the model, steps of reading included."),
  replyTokens: count().default(4096).describe("Most tokens of one reply."),
  contextTokens: count().default(32_768).describe("Tokens of prompt and reply together."),
  topK: count(100).default(5).describe("Pages of a search that are shown."),
  hitCharacters: count().default(5000).describe("Characters of each page that a search shows."),
  pageCharacters: count().default(250_000).describe("Characters of an opened page that are read at most."),
  chunkCharacters: count().default(25_000).describe("Characters of a page that are read in one step."),
  maxChunks: count(1000).default(10).describe("Steps in which a page is read at most."),
  keptCharacters: count().default(100).describe("Characters of a chunk that stay in the context after it was read."),
  temperature: z.number().min(0).default(0.6).describe("Sampling temperature; 0 = greedy."),
  topP: z.number().gt(0).max(1).default(0.95).describe("Nucleus of sampling; 1 = off."),
});
type Options = z.output<typeof optionsSchema>;

const actions = ["search", "access", "answer"];
/** Replies in a row without any text after which the model has nothing more to say. */
const maxEmptyReplies = 3;

/** Something to be read; `kept` stays in its place after the step that read it. */
interface Reading {
  text: string;
  kept: string;
}

export const asearcher: Workflow<Options> = {
  name: "asearcher",
  team: "sa",
  roles: ["agent"],
  options: optionsSchema,
  async run(session, options) {
    const { main } = session;
    const pieces: string[] = [prompt(session.task)];
    const readings: Reading[] = [];
    let numEmpty = 0;
    let news = pieces[0] ?? "";
    for (let turn = 0; turn < options.maxTurns; turn++) {
      const reading = readings.shift();
      if (reading !== undefined) {
        const opening = "\n<think>\n";
        news += reading.text + opening;
        pieces.push(reading.text + opening);
        const thought = await continued(session, options, pieces.join(""), ["</think>"], news);
        pieces[pieces.length - 1] = reading.kept + opening;
        pieces.push(`${thought.endsWith("</think>") ? thought : `${thought}\n</think>`}\n\n`);
        news = "";
        continue;
      }
      const stop = actions.map((name) => `</${name}>`);
      const reply = await continued(session, options, pieces.join(""), stop, news);
      news = "";
      const action = firstTag(reply, actions);
      pieces.push(action?.upToEnd ?? reply);
      numEmpty = reply.trim() === "" ? numEmpty + 1 : 0;
      if (numEmpty === maxEmptyReplies) throw new AgentStopped("turns", `${maxEmptyReplies} empty replies in a row`);
      if (action === undefined) {
        main.malformed("neither a search, nor an address, nor an answer");
        continue;
      }
      const { name, content } = action.tag;
      if (name === "answer") return content;
      readings.push(
        ...(name === "search" ? await searched(session, options, content) : await opened(session, options, content)),
      );
    }
    throw new AgentStopped("turns", `no answer within ${options.maxTurns} replies`);
  },
};

async function continued(
  session: Session,
  options: Options,
  text: string,
  stop: readonly string[],
  news: string,
): Promise<string> {
  const numTokens = await session.countTokens("agent", text);
  const room = options.contextTokens - numTokens;
  if (room < 1) {
    throw new AgentStopped("context", `the text of ${numTokens} tokens fills the context of ${options.contextTokens}`);
  }
  const { task, main } = session;
  const most = task.kind === "table" ? Math.max(options.replyTokens, options.tableTokens) : options.replyTokens;
  const { temperature, topP } = options;
  const settings = { maxTokens: Math.min(room, most), temperature, topP, stop };
  return (await main.complete(session.model("agent"), text, settings, news)).text;
}

async function searched(session: Session, options: Options, query: string): Promise<Reading[]> {
  const looked = await session.search(session.main, query, options.topK);
  let text: string;
  if ("failure" in looked) text = `The search failed: ${looked.failure}`;
  else if (looked.found.length === 0) text = "No search results are found.";
  else {
    const documents = looked.found.map(({ url, contents }, index) => {
      return `[Doc ${index + 1}](${url}):\n${wholeCharacters(contents, options.hitCharacters)}`;
    });
    text = documents.join("\n\n");
  }
  const shown = information(text);
  return [{ text: shown, kept: shown }];
}

async function opened(session: Session, options: Options, url: string): Promise<Reading[]> {
  const looked = await session.access(session.main, url);
  const whole = (text: string): Reading[] => [{ text: information(text), kept: information(text) }];
  if ("failure" in looked) return whole(`The page could not be opened: ${looked.failure}`);
  if (looked.found === "") return whole("No More Information is Found for this URL.");
  const page = wholeCharacters(looked.found, options.pageCharacters);
  const readings: Reading[] = [];
  for (let start = 0; start < page.length && readings.length < options.maxChunks; start += options.chunkCharacters) {
    const heading = `>>>> Page ${readings.length + 1} >>>>\n\n`;
    const chunk = page.slice(start, start + options.chunkCharacters);
    const kept = wholeCharacters(chunk, options.keptCharacters);
    readings.push({
      text: information(heading + chunk),
      kept: information(heading + kept + (kept.length < chunk.length ? "..." : "")),
    });
  }
  return readings;
}

function information(text: string): string {
  return `\n\n<information>\n${text}\n</information>\n`;
}

function prompt(task: Task): string {
  const form =
    task.kind === "table"
      ? `The answer, between <answer> and </answer>, is ${tableForm(task)}.`
      : "The answer stands between <answer> and </answer>; if there are several, commas separate them.";
  return (
    "What follows is a conversation. A user asks, and an assistant finds the answer. The assistant first works out what it " +
    "needs. It asks a search engine by <search> query </search>, and it opens a page that the engine named by " +
    "<access> address </access>; what either brings stands between <information> and </information>. The assistant " +
    `thinks between <think> and </think>. ${form} The question is a sound one and has an answer. The assistant writes in ` +
    `the language of the question.\n\nUser: ${task.question.trim()}\nAssistant:\n<think>`
  );
}
