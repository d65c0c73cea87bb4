// What the golden tests share: the data, and a skip that says why where it is absent.
import { existsSync } from "node:fs";
import { describe } from "vitest";
import { goldenRoot } from "./data.ts";

export * from "./data.ts";

/** `describe`, or a visible skip with the reason in the name. */
export function describeGolden(name: string, body: () => void): void {
  if (existsSync(goldenRoot)) describe(name, body);
  else describe.skip(`${name} (no golden data at ${goldenRoot}; set WIDESEEK_SHARED)`, body);
}
