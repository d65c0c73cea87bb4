// What a caller can get wrong: every case is one clear line with file, line or key, exit code 2, nothing left behind.
import { spawnSync } from "node:child_process";
import { copyFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { runCli } from "../../packages/cli/src/run-cli.ts";
import { badPlaces } from "./bad-places.ts";
import { makeWorkspace, root, type Workspace } from "./workspace.ts";

const home = process.cwd();
let workspace: Workspace;
let directory: string;
beforeAll(async () => {
  workspace = await makeWorkspace();
});
afterAll(() => workspace[Symbol.asyncDispose]());
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-bad-"));
  await cp(workspace.directory, directory, { recursive: true });
  process.chdir(directory);
});
afterEach(async () => {
  process.chdir(home);
  await rm(directory, { recursive: true, force: true });
});

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the command line in this process, as the real one does it. */
async function run(...argv: string[]): Promise<Outcome> {
  const written = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      written[name] += String(text);
      return true;
    }),
  );
  const log = vi.spyOn(console, "log").mockImplementation((...parts) => {
    written.stdout += `${parts.join(" ")}\n`;
  });
  try {
    return { code: await runCli(argv), ...written };
  } finally {
    for (const spy of [...spies, log]) spy.mockRestore();
  }
}

const base = (overrides: string = ""): string => `
model:
  directory: model
data:
  source: files
  corpus: corpus/pages.jsonl
  trainTasks: train.jsonl
  heldOutTasks: held-out.jsonl
agents:
  promptStyle: compact
  limits:
    leadTurns: 1
    contextTokens: 2048
    answerReserveTokens: 64
    maxNewTokensPerTurn: 4
train:
  steps: 1
  questionsPerStep: 1
  groupSize: 2
  maxTokens: 4096
coldStart:
  steps: 1
  maxTokens: 4096
eval:
  samples: 1
  maxTasks: 1
${overrides}`;

interface Case {
  name: string;
  /** Makes the mistake in the current folder. */
  prepare?: () => Promise<unknown>;
  /** Text of run.yaml; default: a good one. */
  yaml?: string;
  /** Default: train --config run.yaml --run-dir out. */
  argv?: string[];
  /** The line says at least this. */
  says: RegExp;
}

const set = (...settings: string[]): string[] => [
  ...["train", "--config", "run.yaml", "--run-dir", "out"],
  ...settings.flatMap((setting) => ["--set", setting]),
];
const write = (file: string, text: string | Buffer) => (): Promise<void> => writeFile(file, text);
const remove = (file: string) => (): Promise<void> => rm(file, { recursive: true });
const editJson = (file: string, change: (value: Record<string, unknown>) => void) => async (): Promise<void> => {
  const value = JSON.parse(await readFile(file, "utf8"));
  change(value);
  await writeFile(file, JSON.stringify(value));
};

const mixtureOfExperts = {
  model_type: "qwen3_moe",
  num_experts: 4,
  num_experts_per_tok: 2,
  moe_intermediate_size: 16,
  norm_topk_prob: true,
};

const cases: Case[] = [
  // Command line
  { name: "an unknown command", argv: ["trian"], says: /unknown command 'trian'/ },
  { name: "an unknown option", argv: ["train", "--stesp", "3"], says: /unknown option '--stesp'/ },
  { name: "an option without its value", argv: ["train", "--config"], says: /--config/ },
  { name: "a missing argument", argv: ["inspect"], says: /missing required argument 'run'/ },
  { name: "an extra argument", argv: ["train", "fast"], says: /too many arguments/ },
  // Config file
  { name: "a config that is missing", argv: ["train", "--config", "no.yaml"], says: /no\.yaml: .*name a YAML/ },
  { name: "a folder as config", argv: ["train", "--config", "corpus"], says: /^error WS_IO: corpus: / },
  { name: "broken YAML", yaml: "train: [1\n", says: /run\.yaml:\d+: broken YAML/ },
  { name: "a key given twice", yaml: "train:\n  steps: 1\n  steps: 2\n", says: /run\.yaml:3: broken YAML/ },
  { name: "a list as config", yaml: "- train\n", says: /run\.yaml: must be a map/ },
  {
    name: "an unknown section",
    yaml: base("trian: {}\n"),
    says: /run\.yaml:\d+: trian: unknown key; did you mean train/,
  },
  {
    name: "an unknown key",
    argv: set("train.stesp=1"),
    says: /--set train\.stesp=1: train\.stesp: unknown key; did you/,
  },
  { name: "a wrong type", argv: set("train.steps=many"), says: /--set train\.steps=many: train\.steps: .*number/ },
  {
    name: "a fraction for a count",
    argv: set("train.steps=1.5"),
    says: /train\.steps: must be a whole number, got 1\.5\n/,
  },
  {
    name: "a count below its limit",
    argv: set("train.groupSize=1"),
    says: /train\.groupSize: must be at least 2, got 1\n/,
  },
  { name: "a temperature that cannot be trained", argv: set("train.temperature=0"), says: /train\.temperature: / },
  {
    name: "an unknown choice",
    argv: set("agents.workflow=both"),
    says: /agents\.workflow: must be "mas" or "sa", got/,
  },
  { name: "an override without a value", argv: set("train.steps"), says: /--set train\.steps: must look like/ },
  { name: "an override of a number's part", argv: set("train.steps.a=1"), says: /--set train\.steps\.a=1/ },
  { name: "a number of steps that is none", argv: [...set(), "--steps", "ten"], says: /train\.steps=ten/ },
  { name: "batches shorter than a context", argv: set("train.maxTokens=100"), says: /train\.maxTokens: 100 is less/ },
  { name: "an impossible limit", argv: set("agents.limits.contextTokens=0"), says: /agents\.limits\.contextTokens: / },
  {
    name: "a cache smaller than a context",
    argv: set("engine.kvCacheTokens=10"),
    says: /engine\.kvCacheTokens: 10 is/,
  },
  {
    name: "a context smaller than its answer",
    argv: set("agents.limits.contextTokens=64"),
    says: /--set agents\.limits\.contextTokens=64: .*64 is not more than answerReserveTokens, 64/,
  },
  { name: "a tool count over its maximum", argv: set("tools.defaultCount=10"), says: /tools\.defaultCount: / },
  { name: "an expert of more than all shares", argv: set("expert.wide=0.9", "expert.twoRounds=0.2"), says: /expert\./ },
  {
    name: "more questions than memory holds",
    argv: set("data={source: embedded, numTrainTables: 1e12}"),
    says: /data\.numTrainTables: .*200000/,
  },
  {
    name: "more regions than there are names",
    argv: set("data={source: embedded, numTrainRegions: 2000, numHeldOutRegions: 2000}"),
    says: /data: the world has too many regions/,
  },
  { name: "groups beyond any size", argv: set("train.groupSize=1e12"), says: /train\.groupSize: .*10000/ },
  {
    name: "more regions than the world has",
    argv: set("data={source: embedded, numHeldOutRegions: 2, maxRegions: 3}"),
    says: /data\.maxRegions: /,
  },
  {
    name: "more questions than the world has",
    argv: set("data={source: embedded, numTrainRegions: 2, numHeldOutRegions: 2, maxRegions: 2}"),
    says: /world is too small for 2000 different questions/,
  },
  // Questions and corpus
  {
    name: "no file of questions",
    prepare: remove("train.jsonl"),
    says: /^error WS_IO: data\.trainTasks: .*train\.jsonl/,
  },
  {
    name: "an empty file of questions",
    prepare: write("train.jsonl", "\n"),
    says: /data\.trainTasks: train\.jsonl: no questions/,
  },
  { name: "a broken line", prepare: write("train.jsonl", '\n{"question": '), says: /train\.jsonl:2: not JSON/ },
  {
    name: "a question without answer",
    prepare: write("train.jsonl", '{"question": "a"}'),
    says: /train\.jsonl:1: answer: /,
  },
  {
    name: "a table without key columns",
    prepare: write("train.jsonl", '{"question": "a", "answer": "b", "is_markdown": true}'),
    says: /train\.jsonl:1: unique_columns: /,
  },
  {
    name: "a misspelt field of a table",
    prepare: write("train.jsonl", '{"question": "a", "answer": "b", "uniqueColumns": ["c"]}'),
    says: /train\.jsonl:1: uniqueColumns: unknown field; did you mean unique_columns\?/,
  },
  {
    name: "no held-out questions",
    prepare: remove("held-out.jsonl"),
    says: /^error WS_IO: data\.heldOutTasks: .*held-out\.jsonl/,
  },
  {
    name: "nothing to evaluate on",
    argv: ["eval", ...set("data.heldOutTasks=null").slice(1)],
    says: /no held-out questions/,
  },
  { name: "no corpus", prepare: remove("corpus/pages.jsonl"), says: /^error WS_IO: corpus\/pages\.jsonl: no such/ },
  { name: "an empty corpus", prepare: write("corpus/pages.jsonl", ""), says: /corpus\/pages\.jsonl: / },
  { name: "a broken page", prepare: write("corpus/pages.jsonl", '{"url": "a"}\n'), says: /corpus\/pages\.jsonl:1: / },
  {
    name: "an index that is none",
    prepare: write("corpus/index.sqlite", "no database"),
    argv: set("data.corpus=corpus/index.sqlite"),
    says: /^error WS_CORRUPT_FILE: corpus\/index\.sqlite/,
  },
  ...badPlaces(set),
  // Model
  {
    name: "no model",
    argv: ["eval", ...set().slice(1), "--model", "no"],
    says: /^error WS_IO: no: no such folder; a model folder holds/,
  },
  {
    name: "a file as model",
    argv: set("model.directory=train.jsonl"),
    says: /WS_IO: train\.jsonl: is a file; a model folder/,
  },
  { name: "a model without config", prepare: remove("model/config.json"), says: /^error WS_IO: .*model\/config\.json/ },
  { name: "a model without weights", prepare: remove("model/model.safetensors"), says: /^error WS_IO: .*safetensors/ },
  {
    name: "a model without tokenizer",
    prepare: remove("model/tokenizer.json"),
    says: /^error WS_IO: .*tokenizer\.json/,
  },
  {
    name: "a broken tokenizer",
    prepare: write("model/tokenizer.json", "{"),
    says: /WS_CORRUPT_FILE: model\/tokenizer\.json is not a tokenizer file: not JSON/,
  },
  {
    name: "a tokenizer that is something else",
    prepare: write("model/tokenizer.json", "{}"),
    says: /WS_CORRUPT_FILE: model\/tokenizer\.json is not a tokenizer file: added_tokens: missing/,
  },
  {
    name: "cut weights",
    prepare: async () => {
      const bytes = await readFile("model/model.safetensors");
      await writeFile("model/model.safetensors", bytes.subarray(0, bytes.length - 100));
    },
    says: /^error WS_CORRUPT_FILE: .*model\.safetensors/,
  },
  {
    name: "weights with a lying header",
    prepare: write("model/model.safetensors", Buffer.from("ffffffffffffffff7b7d", "hex")),
    says: /^error WS_CORRUPT_FILE: .*model\.safetensors/,
  },
  {
    name: "another architecture",
    prepare: editJson("model/config.json", (config) => Object.assign(config, { model_type: "llama" })),
    says: /^error WS_UNSUPPORTED: .*config\.json.*llama/,
  },
  ...(["train", "cold-start"] as const).map((command) => ({
    name: `${command} of a mixture of experts`,
    prepare: editJson("model/config.json", (config) => Object.assign(config, mixtureOfExperts)),
    argv: [command, "--config", "run.yaml", "--run-dir", "out"],
    says: /^error WS_UNSUPPORTED: model: a mixture of experts .* cannot be trained/,
  })),
  {
    name: "a config that does not fit the weights",
    prepare: editJson("model/config.json", (config) => Object.assign(config, { num_hidden_layers: 3 })),
    says: /^error WS_CORRUPT_FILE: .*model\.layers\.2/,
  },
  {
    name: "a context longer than the model's",
    argv: set("agents.limits.contextTokens=4096"),
    says: /agents\.limits\.contextTokens: 4096, but model holds at most 2048/,
  },
  // Runs
  {
    name: "a folder that holds a run",
    prepare: () => mkdir("out").then(() => writeFile("out/config.yaml", "")),
    says: /^error WS_INVALID_ARGUMENT: out already holds a run/,
  },
  { name: "a run to resume that is none", argv: ["train", "--resume", "out"], says: /--resume out: no run there/ },
  { name: "no run to resume", argv: ["train", "--resume"], says: /--resume: no run of train under runs\// },
  {
    name: "a resume with a config",
    argv: ["train", "--resume", "out", "--config", "run.yaml"],
    says: /leave out --config/,
  },
  { name: "traces that are missing", argv: ["inspect", "out"], says: /^error WS_IO: out: no such/ },
  {
    name: "traces that are none",
    prepare: write("episodes.jsonl", "{}\n"),
    argv: ["inspect", "episodes.jsonl"],
    says: /^error WS_CORRUPT_FILE: episodes\.jsonl:1: /,
  },
  {
    name: "a world in a folder that exists",
    argv: ["world", "corpus", "--config", path.join(root, "configs/tiny-cpu.yaml")],
    says: /^error WS_INVALID_ARGUMENT: corpus: is there already; name a new folder/,
  },
  { name: "a world from files", argv: ["world", "new", "--config", "run.yaml"], says: /data\.source is files/ },
];

/** Every file and folder below the current one; the index beside a corpus is a whole cache and may appear. */
async function listing(): Promise<string[]> {
  const names = await readdir(".", { recursive: true });
  return names.filter((name) => name !== "corpus/index.sqlite").sort();
}

describe("bad input", () => {
  it.each(cases)("$name", async ({ prepare, yaml, argv, says }) => {
    await writeFile("run.yaml", yaml ?? base());
    await prepare?.();
    const before = await listing();
    const { code, stdout, stderr } = await run(...(argv ?? set()));
    expect(stderr).toMatch(says);
    expect(stderr).toMatch(/^error WS_[A-Z_]+: .+\n$/);
    expect(stdout).toBe("");
    expect(code).not.toBe(0);
    expect(await listing()).toEqual(before);
  });

  it("is not what the good cases are", async () => {
    await writeFile("run.yaml", base());
    const { code, stdout, stderr } = await run(...set());
    expect({ code, errors: stderr.match(/error/g) }).toEqual({ code: 0, errors: null });
    expect(stdout).toMatch(/trained 1 step; model: out\/model/);
  });

  it("is an evaluation in which no agent has room for a turn", async () => {
    await writeFile("run.yaml", base());
    const limits = "agents.limits.contextTokens=100";
    const { code, stdout, stderr } = await run("eval", ...set(limits).slice(1));
    expect(stderr).toMatch(/^error WS_INVALID_ARGUMENT: evaluate mas: all 1 episodes failed.* of 100 context tokens/m);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  it("is a resume under other settings, or from a broken checkpoint", async () => {
    await writeFile("run.yaml", base());
    expect((await run(...set())).code).toBe(0);
    const before = await listing();
    const other = await run("train", "--resume", "out", "--set", "train.learningRate=1");
    expect(other.stderr).toMatch(/^error WS_INVALID_ARGUMENT: resume: out\/checkpoints.* other settings/m);
    expect(await listing()).toEqual(before);
    await copyFile("run.yaml", "out/checkpoints/step-00000001/state.json");
    const broken = await run("train", "--resume", "out");
    expect(broken.stderr).toMatch(/^error WS_CORRUPT_FILE: .*state\.json/m);
    expect(broken.code).toBe(2);
  });

  it("is no option that the help speaks of", async () => {
    for (const command of ["train", "cold-start", "eval", "inspect", "world"]) {
      const { code, stdout } = await run(command, "--help");
      const defined = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map((match) => match[1]);
      const mentioned = [...stdout.matchAll(/--[a-z][\w-]*/g)].map(([option]) => option);
      expect(mentioned.filter((option) => !defined.includes(option))).toEqual([]);
      expect({ code, defined }).toEqual({ code: 0, defined: expect.arrayContaining(["--help"]) });
    }
  });

  it("shows a stack only with --debug", async () => {
    expect((await run("train", "--config", "no.yaml")).stderr).not.toMatch(/\n\s+at /);
    expect((await run("train", "--config", "no.yaml", "--debug")).stderr).toMatch(/\n\s+at /);
  });

  it("ends the real process with the same line and code", () => {
    const tsx = path.join(root, "node_modules/tsx/dist/esm/index.mjs");
    const main = path.join(root, "packages/cli/src/main.ts");
    const argv = ["--conditions=@wideseek/source", "--import", tsx, main, "--", "train", "--config", "no.yaml"];
    const { status, stderr, stdout } = spawnSync(process.execPath, argv, { encoding: "utf8" });
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(/^error WS_IO: no\.yaml: cannot read the config: .*\n$/);
  });
});
