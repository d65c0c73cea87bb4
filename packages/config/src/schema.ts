// Every knob of a run in one schema; sections that a package owns come from that package. Owns no values of a run.
import { limitsSchema, promptLanguageSchema, promptStyleSchema } from "@wideseek/agents";
import { rewardOptionsSchema } from "@wideseek/rewards";
import { type QaSetName, qaSetNames } from "@wideseek/spec";
import {
  blocklistOptionsSchema,
  mcpOptionsSchema,
  recordingOptionsSchema,
  toolOptionsSchema,
  webOptionsSchema,
} from "@wideseek/tools";
import { coldStartOptionsSchema, trainOptionsSchema } from "@wideseek/train";
import { z } from "zod";
import { judgeSchema, summarySchema } from "./chat-models.ts";
import { count, engineSchema, folder } from "./engine-schema.ts";
import { suiteSettingsSchema } from "./suite-schema.ts";

/** Of one step: all of them are held in memory until it ends. */
const MAX_EPISODES = 1_000_000;
const share = z.number().min(0).max(1);

/** A new model with random weights and a vocabulary learned from the expert's traces. */
const newModelSchema = z.strictObject({
  vocabSize: z
    .int()
    .min(282)
    .max(1_000_000)
    .default(1024)
    .describe("Most entries of the vocabulary, control tokens included."),
  hiddenSize: count(65_536).default(128).describe("Width of the residual stream."),
  intermediateSize: count(1_000_000).default(384).describe("Width of the feed-forward layers."),
  numLayers: count(1000).default(4).describe("Transformer layers."),
  numHeads: count(1000).default(4).describe("Query heads."),
  numKvHeads: count(1000).default(2).describe("Key and value heads; divides numHeads."),
  headDim: z.int().min(2).max(1024).multipleOf(2).default(32).describe("Width of a head."),
  ropeTheta: z.number().positive().default(10_000).describe("Base of the rotary position embedding."),
  maxPositions: count().default(4096).describe("Longest context of the model."),
  initStd: z.number().positive().default(0.02).describe("Standard deviation of the random weights."),
  vocabularyTraces: count(100_000).default(200).describe("Expert episodes that the vocabulary is learned from."),
  seed: z.int().min(0).default(0).describe("Seed of the random weights."),
});

const modelSchema = z.strictObject({
  directory: folder.default("models/wideseek-tiny").describe("Hugging Face folder of the starting model."),
  create: newModelSchema
    .nullable()
    .default(null)
    .describe("Cold start only: make a new model of this shape instead of reading `directory`; null = read."),
});

/** The generator has names for some 2000 regions; questions are held in memory. */
const regions = count(2000);

const embeddedDataSchema = z.strictObject({
  source: z.literal("embedded").describe("A small encyclopaedia and its questions, generated from seeds."),
  worldSeed: z.int().min(0).default(0).describe("Seed of the encyclopaedia."),
  questionSeed: z.int().min(0).default(0).describe("Seed of the questions."),
  numTrainRegions: regions.default(160).describe("Regions that training questions may ask for."),
  numHeldOutRegions: regions.default(40).describe("Regions that only held-out questions ask for."),
  minRegions: regions.default(2).describe("Fewest regions of a table question."),
  maxRegions: regions.default(8).describe("Most regions of a table question."),
  numTrainTables: z.int().min(0).max(200_000).default(2000).describe("Table questions for training."),
  numTrainFacts: z.int().min(0).max(50_000).default(200).describe("Single-fact questions for training."),
  numHeldOutTables: z.int().min(0).max(200_000).default(64).describe("Held-out table questions."),
  numHeldOutFacts: z.int().min(0).max(50_000).default(0).describe("Held-out single-fact questions."),
});

const wideSearchSchema = z.strictObject({
  questions: folder.describe("widesearch.jsonl as published: instance_id, query, evaluation, language."),
  gold: folder.describe("Folder of the gold tables, one CSV file for each instance_id."),
  withoutGold: z
    .enum(["refuse", "leave-out"])
    .default("refuse")
    .describe("What becomes of questions without a gold table: an error, or they are left out and listed."),
});

const setFiles = Object.fromEntries(
  qaSetNames.map((name) => [name, folder.optional().describe(`File of ${name}.`)]),
) as Record<QaSetName, z.ZodOptional<z.ZodString>>;

const qaSetsSchema = z.strictObject({
  sets: z
    .strictObject(setFiles)
    .refine((sets) => Object.keys(sets).length > 0, `must name at least one of ${qaSetNames.join(", ")}`)
    .describe("File of each set: JSONL or a JSON list with question and answers, in any of the published forms."),
  tasksPerSet: z.int().min(0).default(0).describe("Questions taken from the beginning of each set; 0 = all."),
});

const fileDataSchema = z.strictObject({
  source: z.literal("files").describe("Files in the published formats."),
  corpus: folder
    .nullable()
    .default(null)
    .describe("JSONL pages {url, title, contents}, or an index file built from them; null = they come from elsewhere."),
  searchServer: z
    .url({ protocol: /^https?$/, error: "must be an http or https URL such as http://127.0.0.1:8000" })
    .nullable()
    .default(null)
    .describe("Address of a retrieval server with the published interface, instead of a corpus."),
  web: webOptionsSchema.nullable().default(null).describe("The live web, instead of a corpus."),
  mcp: mcpOptionsSchema.nullable().default(null).describe("Tools of an MCP server, instead of a corpus."),
  blocklist: blocklistOptionsSchema
    .prefault({})
    .describe("What holds the answers of a benchmark, and is kept from agents wherever it comes from."),
  recording: recordingOptionsSchema
    .nullable()
    .default(null)
    .describe("Keeps what the run looks up in a file, or answers from such a file; null = neither."),
  trainTasks: folder.nullable().default(null).describe("JSONL training questions; evaluations need none."),
  heldOutTasks: folder.nullable().default(null).describe("JSONL held-out questions, beside those of benchmarks."),
  widesearch: wideSearchSchema.nullable().default(null).describe("The WideSearch benchmark as held-out questions."),
  qa: qaSetsSchema.nullable().default(null).describe("Question-answering sets as held-out questions."),
});

const dataSchema = z.discriminatedUnion("source", [embeddedDataSchema, fileDataSchema]);

const agentsSchema = z.strictObject({
  workflow: z.enum(["mas", "sa"]).default("mas").describe("A lead with subagents, or one agent with the tools."),
  promptStyle: promptStyleSchema.default("full").describe("Full prompts, or compact ones for very small models."),
  promptLanguage: promptLanguageSchema
    .default("task")
    .describe("Language of prompts and tool texts; task = that of the question, en = English for all, as published."),
  limits: limitsSchema.prefault({}).describe("How much an agent may do."),
});

const expertSchema = z.strictObject({
  wide: share.default(0.15).describe("Share of leads that delegate every region at once."),
  twoRounds: share
    .default(0.15)
    .describe("Share of leads that delegate in two rounds; the rest stop at a few regions."),
  thorough: share.default(0.6).describe("Share of subagents that open every page of a list."),
  persistent: share.default(0.5).describe("Share of single agents that go on to the last region."),
  lookUp: share.default(0.7).describe("Share of leads and single agents that look a single fact up."),
  narrowTeamShare: share.default(0.2).describe("Share of episodes whose team is limited to 1 to 8 subagents."),
  singleAgentShare: share.default(0.2).describe("Share of episodes that one single agent runs alone."),
});

const evalSchema = z.strictObject({
  samples: count(1000).default(4).describe("Episodes of one question (the k of Avg@k)."),
  maxTasks: z.int().min(0).default(0).describe("Questions used; 0 = all held-out ones."),
  workflows: z
    .array(z.enum(["mas", "sa"]))
    .min(1)
    .default(["mas"])
    .describe("Teams that are evaluated."),
  temperature: z.number().min(0).default(1).describe("Sampling temperature; 0 = greedy."),
  concurrency: count(1_000_000).default(256).describe("Episodes that run at the same time."),
  seed: z.int().min(0).default(0).describe("Seed of the evaluation; the same for before and after."),
  judgeAttempts: count(100)
    .default(8)
    .describe("Times that an episode is given to a judge that cannot answer; pauses grow from 2 s to a minute."),
  traces: z.int().min(0).default(8).describe("Questions of which episodes are kept with all that was said."),
  traceSamples: count(1000).default(1).describe("Episodes of each of these questions that are kept."),
  sweepSubagents: z
    .array(count(1_000_000))
    .default([])
    .describe("Numbers of subagents in a whole episode that `eval` sweeps over."),
  sweepSubagentsPerCall: z
    .array(count(10_000))
    .default([])
    .describe("Numbers of subagents that the lead may start in one turn, the paper's width, that `eval` sweeps over."),
  sweepTurns: z
    .array(count(10_000))
    .default([])
    .describe("Numbers of turns of the lead, a subagent or the single agent that `eval` sweeps over."),
});

const runSchema = z.strictObject({
  directory: folder.nullable().default(null).describe("Folder of the results; null = a new one under runs/."),
  seed: z.int().min(0).default(0).describe("Seed of everything that is drawn in the run."),
});

export const runConfigSchema = z
  .strictObject({
    model: modelSchema.prefault({}),
    engine: engineSchema.prefault({}),
    data: dataSchema.prefault({ source: "embedded" }),
    agents: agentsSchema.prefault({}),
    tools: toolOptionsSchema.prefault({}),
    rewards: rewardOptionsSchema.prefault({}),
    judge: judgeSchema.prefault({ kind: "rule" }),
    summary: summarySchema.prefault({ kind: "none" }),
    train: trainOptionsSchema.prefault({}),
    coldStart: coldStartOptionsSchema.prefault({}),
    expert: expertSchema.prefault({}),
    eval: evalSchema.prefault({}),
    suite: suiteSettingsSchema.prefault({}),
    run: runSchema.prefault({}),
  })
  .superRefine((config, context) => {
    const fail = (path: string[], message: string): void => {
      context.addIssue({ code: "custom", path, message });
    };
    const { limits } = config.agents;
    const contexts: [number, string[]][] = [[limits.contextTokens, ["contextTokens"]]];
    for (const [role, tokens] of Object.entries(limits.contextTokensByRole)) {
      contexts.push([Number(tokens), ["contextTokensByRole", role]]);
    }
    for (const [tokens, key] of contexts) {
      if (tokens > limits.answerReserveTokens) continue;
      const reserve = `answerReserveTokens, ${limits.answerReserveTokens}`;
      fail(
        ["agents", "limits", ...key],
        `${tokens} is not more than ${reserve}; raise it or lower answerReserveTokens`,
      );
    }
    const contextTokens = Math.max(...contexts.map(([tokens]) => tokens));
    const { kvCacheTokens = contextTokens } = config.engine;
    if (kvCacheTokens < contextTokens) {
      fail(
        ["engine", "kvCacheTokens"],
        `${kvCacheTokens} is less than the longest context of an agent, ${contextTokens}; raise it or leave it out`,
      );
    }
    for (const section of ["train", "coldStart"] as const) {
      if (config[section].maxTokens < contextTokens) {
        fail(
          [section, "maxTokens"],
          `${config[section].maxTokens} is less than the longest context of an agent, ${contextTokens}; ` +
            "a trajectory is never cut, so a batch must hold the longest",
        );
      }
      if (config[section].minLearningRate > config[section].learningRate) {
        fail([section, "minLearningRate"], "must not pass learningRate");
      }
    }
    if (config.summary.kind === "judge" && config.judge.kind === "rule") {
      fail(
        ["summary", "kind"],
        'is "judge", but judge.kind is "rule", which is no model; choose api or local for one of them',
      );
    }
    const { questionsPerStep, groupSize } = config.train;
    if (questionsPerStep * groupSize > MAX_EPISODES) {
      const numEpisodes = questionsPerStep * groupSize;
      fail(["train", "questionsPerStep"], `makes ${numEpisodes} episodes of a step, the most are ${MAX_EPISODES}`);
    }
    if (config.data.source === "embedded") {
      const { minRegions, maxRegions, numTrainRegions, numHeldOutRegions } = config.data;
      if (minRegions > maxRegions) fail(["data", "minRegions"], "must not pass maxRegions");
      if (maxRegions > Math.min(numTrainRegions, numHeldOutRegions)) {
        fail(["data", "maxRegions"], "must not pass numTrainRegions or numHeldOutRegions");
      }
    }
    if (config.data.source === "files") {
      const { trainTasks, heldOutTasks, widesearch, qa } = config.data;
      if ([trainTasks, heldOutTasks, widesearch, qa].every((questions) => questions === null)) {
        const heldOut = "heldOutTasks, widesearch or qa";
        fail(["data", "trainTasks"], `missing; give training questions, or for an evaluation only ${heldOut}`);
      }
    }
    if (config.data.source === "files") {
      const places = ["corpus", "searchServer", "web", "mcp"] as const;
      const { data } = config;
      const given = places.filter((place) => data[place] !== null);
      const [first, second] = given;
      if (first !== undefined && second !== undefined) {
        fail(["data", first], `give one of ${places.join(", ")}, not ${first} and ${second}`);
      }
      if (given.length === 0 && data.recording?.mode !== "replay") {
        fail(["data", "corpus"], `give one of ${places.join(", ")}`);
      }
    }
    if (config.expert.wide + config.expert.twoRounds > 1) fail(["expert", "twoRounds"], "wide + twoRounds passes 1");
    const created = config.model.create;
    if (created && created.maxPositions < contextTokens) {
      fail(["model", "create", "maxPositions"], `${created.maxPositions} is less than agents.limits.contextTokens`);
    }
    if (created && created.numHeads % created.numKvHeads !== 0) {
      fail(["model", "create", "numKvHeads"], `${created.numKvHeads} does not divide numHeads, ${created.numHeads}`);
    }
  });

export type RunConfig = z.output<typeof runConfigSchema>;
export type RunConfigInput = z.input<typeof runConfigSchema>;
