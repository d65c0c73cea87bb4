// The program in the README runs as written, on a tiny random model in the place of the one it names.
import { execFile } from "node:child_process";
import { mkdir, readFile, rename, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { makeWorkspace, root } from "./workspace.ts";

it("the README's program trains a step for every question", async () => {
  await using workspace = await makeWorkspace();
  const { directory } = workspace;
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const program = /```ts\n([\s\S]*?)```/.exec(readme)?.[1];
  if (program === undefined) throw new Error("README.md has no TypeScript program");
  await mkdir(path.join(directory, "models"));
  await rename(workspace.model, path.join(directory, "models/wideseek-tiny"));
  await mkdir(path.join(directory, "data"));
  await rename(path.join(directory, "corpus"), path.join(directory, "data/corpus"));
  const tasks = (await readFile(path.join(directory, "train.jsonl"), "utf8")).split("\n").slice(0, 2);
  await writeFile(path.join(directory, "data/train.jsonl"), tasks.join("\n"));
  await writeFile(path.join(directory, "package.json"), '{"type": "module"}');
  await writeFile(path.join(directory, "program.ts"), program);
  await mkdir(path.join(directory, "node_modules/@wideseek"), { recursive: true });
  await symlink(path.join(root, "packages/core"), path.join(directory, "node_modules/@wideseek/core"));

  const tsx = path.join(root, "node_modules/tsx/dist/esm/index.mjs");
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ["--conditions=@wideseek/source", "--import", tsx, "program.ts"],
    { cwd: directory },
  );
  expect(stdout.match(/skipped: false/g)).toHaveLength(tasks.length);
  expect(stdout).toMatch(/version: 2n/);
});

it("README and docs/formats.md name scripts that package.json has, and the same Node", async () => {
  const { scripts, engines } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  const readme = await readFile(path.join(root, "README.md"), "utf8");
  const formats = await readFile(path.join(root, "docs/formats.md"), "utf8");
  const named = [...`${readme}${formats}`.matchAll(/pnpm(?:@[\d.]+)? (?:run )?([a-z][\w:-]*)/g)].map(
    ([, name]) => name,
  );
  expect(named).toEqual(expect.arrayContaining(["train", "eval", "world", "inspect", "start"]));
  const known = new Set([...Object.keys(scripts), "install", "is"]);
  expect(named.filter((name) => !known.has(name as string))).toEqual([]);
  expect(readme).toContain(`Node ${engines.node.replace(">=", "")} or newer`);
});
