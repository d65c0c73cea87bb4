// The tools of MiroFlow's agents over our search and pages. Owns their descriptions and results.
import { z } from "zod";
import type { AgentRecord } from "./agent-record.ts";
import type { McpCall } from "./mcp-call.ts";
import type { MiroflowOptions } from "./miroflow.ts";
import type { McpServer } from "./miroflow-prompts.ts";
import type { Session } from "./session.ts";
import { wholeCharacters } from "./token-cut.ts";

const textSchema = (name: string, description: string): object => ({
  type: "object",
  properties: { [name]: { type: "string", description } },
  required: [name],
});

export const mainServers: readonly McpServer[] = [
  {
    name: "agent-worker",
    tools: [
      {
        name: "execute_subtask",
        description: "Gives a subtask to a worker, who searches and reads pages and reports what it found.",
        schema: textSchema("subtask", "The subtask, with everything that is needed to understand it."),
      },
    ],
  },
];

export const workerServers: readonly McpServer[] = [
  {
    name: "tool-searching",
    tools: [
      {
        name: "google_search",
        description: "Searches the web; gives titles, addresses and beginnings of the best pages.",
        schema: textSchema("q", "What to search for."),
      },
      {
        name: "scrape_website",
        description: "Shows the text of a page.",
        schema: textSchema("url", "Address of the page, as a search gave it."),
      },
    ],
  },
];

export function isListed(servers: readonly McpServer[], { server, tool }: McpCall): boolean {
  return servers.some(({ name, tools }) => name === server && tools.some((each) => each.name === tool));
}

const argument = z.string().trim().min(1);

/** What the worker is told; a wrong call is told too. */
export async function runWorkerTool(
  session: Session,
  options: MiroflowOptions,
  record: AgentRecord,
  call: McpCall,
): Promise<string> {
  const isSearch = call.tool === "google_search";
  const known = isListed(workerServers, call);
  const parsed = argument.safeParse(call.arguments[isSearch ? "q" : "url"]);
  if (!known || !parsed.success) {
    record.malformed(`wrong call of ${wholeCharacters(call.tool, 100)}`);
    return known
      ? `${call.tool} needs ${isSearch ? "q" : "url"}: some text.`
      : 'There is no such tool. Server tool-searching has google_search {"q": "..."} and scrape_website {"url": "..."}.';
  }
  if (isSearch) {
    const looked = await session.search(record, parsed.data, options.numHits);
    if ("failure" in looked) return `The search failed: ${looked.failure}`;
    if (looked.found.length === 0) return "Nothing was found.";
    const shown = looked.found.map(({ title, url, contents }, index) => {
      return `${index + 1}. ${title}\n${url}\n${wholeCharacters(contents, options.hitCharacters)}`;
    });
    return shown.join("\n\n");
  }
  const looked = await session.access(record, parsed.data);
  if ("failure" in looked) return `The page could not be opened: ${looked.failure}`;
  if (looked.found === "") return `There is no page ${parsed.data}.`;
  return wholeCharacters(looked.found, options.pageCharacters);
}
