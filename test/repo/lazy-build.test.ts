// The scripts of a checkout compile the engine when it is needed: after mistakes of the caller have shown.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "./imports.ts";

/** Runs the script as pnpm does, where no compiler is found. */
function script(name: string, ...argv: string[]): { status: number | null; stderr: string } {
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const [program, ...flags] = scripts[name].split(" ");
  expect(program).toBe("node");
  const env = { ...process.env, PATH: "/nowhere" };
  return spawnSync(process.execPath, [...flags, ...argv], { cwd: root, env, encoding: "utf8" });
}

test.each(["train", "cold-start", "eval"])("%s looks at its arguments before it compiles", (name) => {
  const { status, stderr } = script(name, "--typo");
  expect({ status, stderr }).toEqual({ status: 2, stderr: "error WS_INVALID_ARGUMENT: unknown option '--typo'\n" });
});

test("what needs the engine compiles it first", () => {
  const load =
    'import { loadAddon } from "@wideseek/engine"; try { loadAddon() } catch (error) { console.error(error.message) }';
  const { stderr } = script("start", "--input-type=module", "-e", load);
  expect(stderr).toMatch(/^wideseek needs CMake .*\n.*\(the native build failed, see above\)/);
});
