// What a caller can get wrong about where things are looked up and written, for bad-input.test.ts.

import { writeFile } from "node:fs/promises";

export interface BadPlace {
  name: string;
  /** Makes the mistake in the current folder. */
  prepare?: () => Promise<void>;
  argv: string[];
  says: RegExp;
}

/** @param set the arguments of a run with these settings */
export const badPlaces = (set: (...settings: string[]) => string[]): BadPlace[] => [
  {
    name: "a search engine without its key",
    argv: set("data.corpus=null", "data.web={search: {engine: serper, apiKeyEnv: WIDESEEK_TEST_NO_KEY}}"),
    says: /^error WS_INVALID_ARGUMENT: web\.search\.apiKeyEnv: .* WIDESEEK_TEST_NO_KEY is not set/,
  },
  {
    name: "a key in place of its name",
    argv: set("data.corpus=null", "data.web={search: {engine: serper, apiKeyEnv: sk-1234}}"),
    says: /^error WS_INVALID_ARGUMENT: (?!.*sk-1234).*apiKeyEnv: must be the NAME of an environment variable/,
  },
  {
    name: "a search engine that is not there",
    argv: set(
      "data.corpus=null",
      "data.web={search: {engine: searxng, baseUrl: http://127.0.0.1:1}, maxAttempts: 1, cache: {file: null}}",
    ),
    says: /^error WS_IO: web\.search: 127\.0\.0\.1:1: connect ECONNREFUSED/,
  },
  {
    name: "a cache that is none",
    argv: set(
      "data.corpus=null",
      "data.web={search: {engine: searxng, baseUrl: http://127.0.0.1:1}, cache: {file: train.jsonl}}",
    ),
    says: /^error WS_CORRUPT_FILE: train\.jsonl: .*delete it, or name another file/,
  },
  {
    name: "two places",
    argv: set("data.searchServer=http://127.0.0.1:1"),
    says: /data\.corpus: give one of corpus, searchServer, web, mcp, not corpus and searchServer/,
  },
  {
    name: "an MCP server that is not there",
    argv: set(
      "data.corpus=null",
      "data.mcp={server: {transport: stdio, command: ./no-such-program}, search: {tool: a}, access: {tool: b}}",
    ),
    says: /^error WS_IO: MCP server \.\/no-such-program: no such program; see data\.mcp\.server\.command/,
  },
  {
    name: "a judge that is not there",
    argv: set("judge={kind: api, baseUrl: http://127.0.0.1:1/v1, model: m, maxAttempts: 1}"),
    says: /^error WS_IO: judge: http:\/\/127\.0\.0\.1:1\/v1 \(m\): connect ECONNREFUSED/,
  },
  {
    name: "a model for summaries that is not there",
    argv: set("summary={kind: api, baseUrl: http://127.0.0.1:1/v1, model: m, maxAttempts: 1}"),
    says: /^error WS_IO: summary: http:\/\/127\.0\.0\.1:1\/v1 \(m\): connect ECONNREFUSED/,
  },
  {
    name: "a training table without a column that it asks for",
    prepare: () =>
      writeFile(
        "train.jsonl",
        `${JSON.stringify({ question: "q", answer: "| River |\n|---|\n| Elbe |", unique_columns: ["River Name"] })}\n`,
      ),
    argv: set(),
    says: /^error WS_INVALID_ARGUMENT: train\.jsonl:1: answer: the table has no column River Name; it has River\n/,
  },
  {
    name: "a run to compare that is none",
    argv: ["compare", "no", "also-no"],
    says: /^error WS_IO: compare: no: no run folder and no report of an evaluation/,
  },
  {
    name: "a run to draw that is none",
    argv: ["plot", "no", "--out", "figures/"],
    says: /^error WS_IO: no: no run folder that can be read/,
  },
  {
    name: "a search server that is not there",
    argv: set("data.corpus=null", "data.searchServer=http://127.0.0.1:1"),
    says: /^error WS_IO: data\.searchServer: .*; is it started \(`wideseek tools serve`\), and the address right\?/,
  },
  {
    name: "a server of nothing",
    argv: ["tools", "serve"],
    says: /^error WS_INVALID_ARGUMENT: name what is served: --index PATH/,
  },
  {
    name: "a setting by the beginning of its name",
    argv: set("run.dir=out"),
    says: /run\.dir: unknown key; did you mean directory\?/,
  },
  {
    name: "no recording to replay",
    argv: set("data.recording={file: no.jsonl, mode: replay}"),
    says: /^error WS_IO: no\.jsonl: cannot open the recording/,
  },
  {
    name: "a recording that is none",
    argv: set("data.recording={file: train.jsonl}"),
    says: /^error WS_CORRUPT_FILE: train\.jsonl:1: not a recording/,
  },
  {
    name: "an index where nothing can be made",
    argv: ["index", "/proc/wideseek/index", "corpus/pages.jsonl"],
    says: /^error WS_IO: \/proc\/wideseek\/index: .*; choose another folder/,
  },
  {
    name: "an index among other files",
    argv: ["index", ".", "corpus/pages.jsonl"],
    says: /^error WS_INVALID_ARGUMENT: \.: holds other files \(.+\), no index; name a new folder/,
  },
];
