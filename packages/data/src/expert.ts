// The scripted expert of the cold start: what a lead, subagent or single agent writes next, from the conversation alone.
// It copies names and values only from tool responses in its own context, as the trained model must.

import { markdownRow, markdownTable } from "./markdown-table.ts";
import { SeededRandom } from "./random.ts";

/** Shares of the ways in which the expert works; deliberately mixed, so that training has something to improve. */
export interface ExpertQuality {
  /** Lead delegates every region at once. */
  wide: number;
  /** Lead delegates every region, half of them in a second round. The rest of the leads stop at a few regions. */
  twoRounds: number;
  /** Subagent opens every page of the list; otherwise only the first. */
  thorough: number;
  /** Single agent goes on until it is told to answer; otherwise it stops after two regions. */
  persistent: number;
  /** Lead looks a single fact up; otherwise it gives up. */
  lookUp: number;
}

export interface ExpertOptions {
  seed: bigint;
  quality: ExpertQuality;
  /** A piece of the notice by which the agent loop asks for the answer now. */
  answerNotice: string;
  /** A piece of the text that stands for a subagent that was not run. */
  notRunNotice: string;
}

interface Conversation {
  role: "lead" | "subagent" | "single";
  request: string;
  numTurns: number;
  /** Tool messages in order. */
  responses: string[];
}

interface TableRequest {
  plural: string;
  regions: string[];
  columns: string[];
}

/** A row of a table on an opened or found page. */
interface FoundRow {
  columns: string[];
  cells: string[];
}

/** Reads the Qwen3 rendering of a conversation: special tokens kept, generation prompt last. */
export function parseConversation(text: string): Conversation {
  const blocks = text.split("<|im_start|>").slice(1);
  const system = blocks[0] ?? "";
  const users = blocks.filter((block) => block.startsWith("user\n"));
  const responses = users.filter((block) => block.includes("<tool_response>"));
  const role = system.includes('"create_sub_agents"') ? "lead" : system.includes('"queries"') ? "subagent" : "single";
  return {
    role,
    request: (users[0] ?? "").slice("user\n".length).replace("<|im_end|>", ""),
    numTurns: blocks.filter((block) => block.startsWith("assistant\n")).length - 1,
    responses,
  };
}

/** The expert's next turn, without end token. Pure: the same conversation and options give the same text. */
export function expertReply(text: string, options: ExpertOptions): string {
  const conversation = parseConversation(text);
  const random = new SeededRandom("expert", options.seed, conversation.role, conversation.request);
  const table = parseTableRequest(conversation.request);
  switch (conversation.role) {
    case "lead":
      return table ? leadTable(conversation, table, options, random) : leadFact(conversation, options, random);
    case "subagent":
      return table ? subagentTable(conversation, table, options, random) : subagentFact(conversation);
    case "single":
      return table ? singleTable(conversation, table, options, random) : singleFact(conversation, options, random);
  }
}

/** The lead's and single agent's question names its columns; a subagent is asked for one place only. */
function parseTableRequest(request: string): TableRequest | undefined {
  const match = /All (\w+) in ([^.:]+)\. Columns: ([^\n<]+)/.exec(request) ?? /^(\w+) in (\w+)/.exec(request);
  if (!match) return undefined;
  const [, plural = "", regions = "", columns = ""] = match;
  return { plural, regions: regions.split(", "), columns: columns.trim().split(", ") };
}

function leadTable(
  conversation: Conversation,
  table: TableRequest,
  options: ExpertOptions,
  random: SeededRandom,
): string {
  const { wide, twoRounds } = options.quality;
  const style = random.weighted([wide, twoRounds, 1 - wide - twoRounds]);
  const half = Math.ceil(table.regions.length / 2);
  const delegate = (thought: string, regions: readonly string[]) =>
    toolCall(thought, "create_sub_agents", {
      sub_agents: regions.map((region) => ({ prompt: `${table.plural} in ${region}` })),
    });
  if (conversation.numTurns === 0) {
    if (style === 0) return delegate("Every region, one agent each.", table.regions);
    if (style === 1) return delegate("The first half of the regions.", table.regions.slice(0, half));
    const numRegions = random.integer(1, Math.min(3, table.regions.length));
    return delegate(`Only ${numRegions} of the regions.`, table.regions.slice(0, numRegions));
  }
  const told = conversation.responses.join("\n");
  const mayContinue = !told.includes(options.answerNotice) && !told.includes(options.notRunNotice);
  if (style === 1 && conversation.numTurns === 1 && mayContinue) {
    return delegate("The other half of the regions.", table.regions.slice(half));
  }
  const rows = [...told.matchAll(/^\|(.+)\|$/gm)].map((row) => (row[1] ?? "").split("|"));
  return turn("Write the table.", `\`\`\`markdown\n${markdownTable(table.columns, rows)}\n\`\`\``);
}

function leadFact(conversation: Conversation, options: ExpertOptions, random: SeededRandom): string {
  if (conversation.numTurns === 0) {
    if (!random.chance(options.quality.lookUp)) return turn("I do not know.", "\\boxed{unknown}");
    return toolCall("One fact, one agent.", "create_sub_agents", {
      sub_agents: [{ prompt: factRequest(conversation) }],
    });
  }
  const attribute = factRequest(conversation).split(" ")[0] ?? "";
  const match = new RegExp(`^${attribute}: (\\S+)$`, "m").exec(conversation.responses.at(-1) ?? "");
  return turn("Answer.", `\\boxed{${match?.[1] ?? "unknown"}}`);
}

function subagentTable(
  conversation: Conversation,
  table: TableRequest,
  options: ExpertOptions,
  random: SeededRandom,
): string {
  const place = `${table.plural} in ${table.regions[0]}`;
  if (conversation.numTurns === 0) {
    return toolCall("Find the list.", "search", { queries: [{ query: `List of ${place}` }] });
  }
  const urls = listedUrls(conversation.responses.join("\n"), place);
  if (conversation.numTurns === 1 && urls.length > 0) {
    const thorough = random.chance(options.quality.thorough);
    const opened = thorough ? urls.slice(0, 5) : urls.slice(0, 1);
    return toolCall(thorough ? "Open every page." : "Open one page.", "access", {
      urls: opened.map((url) => ({ url })),
    });
  }
  const rows = findRows(conversation.responses.slice(1).join("\n")).map(({ cells }) => markdownRow(cells));
  return turn("Report.", rows.length > 0 ? rows.join("\n") : "Nothing found.");
}

function subagentFact(conversation: Conversation): string {
  const [attribute = "", , , ...subject] = factRequest(conversation).replace("?", "").split(" ");
  if (conversation.numTurns === 0) {
    return toolCall("Find the page.", "search", { queries: [{ query: `The ${subject.join(" ")}` }] });
  }
  return turn("Report.", factReport(conversation, attribute, subject.at(-1) ?? ""));
}

function singleTable(
  conversation: Conversation,
  table: TableRequest,
  options: ExpertOptions,
  random: SeededRandom,
): string {
  const told = conversation.responses.join("\n");
  const maxRegions = random.chance(options.quality.persistent)
    ? table.regions.length
    : Math.min(2, table.regions.length);
  const region = table.regions[Math.floor(conversation.numTurns / 2)];
  const done = Math.floor(conversation.numTurns / 2) >= maxRegions;
  if (region === undefined || done || told.includes(options.answerNotice)) {
    const opened = told.split("\n\n").filter((section) => section.includes("# Access URL:"));
    const cells = new Map(findRows(opened.join("\n\n")).map((row) => [row.cells[0], row.cells]));
    return turn("Write the table.", `\`\`\`markdown\n${markdownTable(table.columns, [...cells.values()])}\n\`\`\``);
  }
  const place = `${table.plural} in ${region}`;
  if (conversation.numTurns % 2 === 0) return toolCall("Find the list.", "search", { query: `List of ${place}` });
  const urls = listedUrls(told, place);
  return turn(
    "Open every page.",
    urls
      .slice(0, 5)
      .map((url) => callBlock("access", { url }))
      .join("\n"),
  );
}

function singleFact(conversation: Conversation, options: ExpertOptions, random: SeededRandom): string {
  const [attribute = "", , , ...subject] = factRequest(conversation).replace("?", "").split(" ");
  if (conversation.numTurns === 0) {
    if (!random.chance(options.quality.lookUp)) return turn("I do not know.", "\\boxed{unknown}");
    return toolCall("Find the page.", "search", { query: `The ${subject.join(" ")}` });
  }
  const report = factReport(conversation, attribute, subject.at(-1) ?? "");
  return turn("Answer.", `\\boxed{${report.split(": ")[1] ?? "unknown"}}`);
}

/** "Metal of the mine Kelo?" out of a request that may say more around it. */
function factRequest(conversation: Conversation): string {
  return /\w+ of the \w+ \w+\?/.exec(conversation.request)?.[0] ?? conversation.request;
}

function factReport(conversation: Conversation, attribute: string, name: string): string {
  const found = findRows(conversation.responses.join("\n")).find(({ cells }) => cells[0] === name);
  const value = found?.cells[found.columns.indexOf(attribute)];
  return value === undefined ? "Nothing found." : `${attribute}: ${value}`;
}

function listedUrls(text: string, place: string): string[] {
  const match = new RegExp(`List of ${place}: ([^.]+)\\.`).exec(text);
  return [...(match?.[1] ?? "").matchAll(/wiki\/\w+/g)].map((url) => url[0]);
}

function findRows(text: string): FoundRow[] {
  const tables = text.matchAll(/^\|(Name\|.+)\|\n\|---.*\|\n((?:\|.+\|\n?)+)/gm);
  return [...tables].flatMap(([, header = "", body = ""]) =>
    [...body.matchAll(/^\|(.+)\|$/gm)].map((row) => ({
      columns: header.split("|"),
      cells: (row[1] ?? "").split("|"),
    })),
  );
}

function turn(thinking: string, rest: string): string {
  return `<think>\n${thinking}\n</think>\n\n${rest}`;
}

function toolCall(thinking: string, name: string, args: unknown): string {
  return turn(thinking, callBlock(name, args));
}

/** The call as Qwen3's template writes it: JSON with Python's spaces. */
function callBlock(name: string, args: unknown): string {
  return `<tool_call>\n${spacedJson({ name, arguments: args })}\n</tool_call>`;
}

function spacedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spacedJson).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([key, item]) => `${JSON.stringify(key)}: ${spacedJson(item)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}
