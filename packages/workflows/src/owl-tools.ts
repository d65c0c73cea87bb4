// The tools of OWL's workers over our search and pages, as native function calls. Owns their definitions and results.
import type { ToolCall, ToolDefinition } from "@wideseek/spec";
import { z } from "zod";
import type { AgentRecord } from "./agent-record.ts";
import type { OwlOptions } from "./owl.ts";
import type { Session } from "./session.ts";
import { wholeCharacters } from "./token-cut.ts";

const text = (description: string) => ({ type: "string", description });

function definition(name: string, description: string, properties: Record<string, object>): ToolDefinition {
  const parameters = { type: "object", properties, required: Object.keys(properties) };
  return { type: "function", function: { name, description, parameters } };
}

const definitions: readonly ToolDefinition[] = [
  definition("search_google", "Searches the web; gives titles, addresses and beginnings of the best pages.", {
    query: text("What to search for."),
  }),
  definition("search_wiki", "Shows the page of an encyclopaedia on a subject.", {
    entity: text("Name of the subject."),
  }),
  definition("extract_document_content", "Shows the text of a page or document.", {
    document_path: text("Address of the page, as a search gave it."),
  }),
];

export function owlTools(names: readonly string[]): ToolDefinition[] {
  return definitions.filter((each) => names.includes(each.function.name));
}

const argument = z.string().trim().min(1);

/** What the model is told; a wrong call is told too. */
export async function runOwlTool(
  session: Session,
  options: OwlOptions,
  record: AgentRecord,
  { name, arguments: value }: ToolCall,
): Promise<string> {
  const key = { search_google: "query", search_wiki: "entity", extract_document_content: "document_path" }[name] ?? "";
  const parsed = argument.safeParse((value as Record<string, unknown> | null)?.[key]);
  if (!parsed.success) {
    record.malformed(`${name} without ${key}`);
    return `${name} needs ${key}: some text.`;
  }
  if (name === "extract_document_content") return await page(session, options, record, parsed.data);
  const looked = await session.search(record, parsed.data, name === "search_wiki" ? 1 : options.numHits);
  if ("failure" in looked) return `The search failed: ${looked.failure}`;
  const [first] = looked.found;
  if (first === undefined) return "Nothing was found.";
  if (name === "search_wiki") return `${first.title}\n${first.url}\n${await page(session, options, record, first.url)}`;
  const shown = looked.found.map(({ title, url, contents }, index) => {
    return `${index + 1}. ${title}\n${url}\n${wholeCharacters(contents, options.hitCharacters)}`;
  });
  return shown.join("\n\n");
}

async function page(session: Session, options: OwlOptions, record: AgentRecord, url: string): Promise<string> {
  const looked = await session.access(record, url);
  if ("failure" in looked) return `The page could not be opened: ${looked.failure}`;
  if (looked.found === "") return `There is no page ${url}.`;
  return wholeCharacters(looked.found, options.pageCharacters);
}
