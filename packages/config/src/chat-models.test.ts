// Sections that name models: defaults, what is refused, and that no message shows a key.
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { changedSettings } from "./compare.ts";
import { loadConfig } from "./load.ts";
import type { RunConfig } from "./schema.ts";

const load = (...overrides: string[]): Promise<RunConfig> => loadConfig({ overrides });
const api = ["judge.kind=api", "judge.baseUrl=http://127.0.0.1:1/v1", "judge.model=m"];

describe("judge and summary", () => {
  test("the rule judge and whole pages unless told otherwise", async () => {
    expect(await load()).toMatchObject({ judge: { kind: "rule" }, summary: { kind: "none" } });
  });

  test("a server, weights of our own, and summaries by the judge's model", async () => {
    expect((await load(...api, "summary.kind=judge")).judge).toMatchObject({
      kind: "api",
      maxItems: 40,
      apiKeyEnv: null,
    });
    const local = await load("judge.kind=local", "judge.directory=models/wideseek-tiny", "judge.engine.device=cpu");
    expect(local.judge).toMatchObject({ kind: "local", engine: { device: "cpu" } });
  });

  test.each([
    [["judge.kind=gpt"], /judge\.kind: must be one of "rule", "api", "local"/],
    [["judge.kind=api", "judge.model=m"], /judge\.baseUrl/],
    [[...api, "judge.baseUrl=nonsense"], /judge\.baseUrl: must be an http or https URL/],
    [["judge.kind=local"], /judge\.directory/],
    [["judge.maxItems=3"], /judge\.kind: must be one of/],
    [["judge.kind=rule", "judge.maxItems=3"], /maxItems: belongs to kind api, but kind is rule/],
    [[...api, "judge.maxItem=3"], /did you mean maxItems/],
    [[...api, "judge.extraBody={api_key: x}"], /judge\.extraBody: must hold no secrets/],
    [["summary.kind=judge"], /summary\.kind: is "judge", but judge\.kind is "rule"/],
  ])("%j is refused in one line", async (overrides, message) => {
    await expect(load(...overrides)).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      message: expect.stringMatching(message),
    });
  });

  const key = "sk-secret-0123456789abcdef";
  test.each([[`judge.apiKeyEnv=${key}`], [`judge.apiKey=${key}`], [`judge.apiKeyEnv={a: ${key}}`], [`judge.${key}=1`]])(
    "a key in the wrong place is never shown: %s",
    async (override) => {
      const error = await load(...api, override).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "WS_INVALID_ARGUMENT" });
      expect(inspect(error, { depth: 10 })).not.toContain(key);
    },
  );

  test("how a server is reached changes no result, which model it is does", async () => {
    const before = await load(...api);
    const elsewhere = await load(...api, "judge.baseUrl=http://10.0.0.1/v1", "judge.maxConcurrent=2");
    expect(changedSettings(before, elsewhere)).toEqual([]);
    const other = await load(...api, "judge.model=other");
    expect(changedSettings(before, other)).toEqual(['judge.model: "m" -> "other"']);
  });
});
