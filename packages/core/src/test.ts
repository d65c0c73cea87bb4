// Fakes for tests of code that uses WideSeek. Owns no behaviour of the real parts.
import type { Toolset } from "@wideseek/spec";

export { type ScriptedContext, ScriptedPolicy, type ScriptedPolicySettings } from "@wideseek/agents";

/** Tools that answer every call with the text that `pages` has for its name and arguments, or an error text. */
export class StaticTools implements Toolset {
  readonly #pages: ReadonlyMap<string, string>;

  /** Keys are `JSON.stringify([name, arguments])`. */
  constructor(pages: ReadonlyMap<string, string> = new Map()) {
    this.#pages = pages;
  }

  definitions(): ReturnType<Toolset["definitions"]> {
    return ["search", "access"].map((name) => ({
      type: "function",
      function: { name, description: name, parameters: { type: "object", properties: {} } },
    }));
  }

  async run({ name, arguments: args }: Parameters<Toolset["run"]>[0]): ReturnType<Toolset["run"]> {
    const text = this.#pages.get(JSON.stringify([name, args]));
    const counts = { numSearches: name === "search" ? 1 : 0, numAccesses: name === "access" ? 1 : 0 };
    if (text === undefined) return { text: "nothing found", ok: false, ...counts };
    return { text, ok: true, ...counts };
  }
}
