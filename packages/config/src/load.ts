// Reads a run config: YAML file, then --set overrides, then the schema. Owns how a mistake in either is reported.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { describeIssue, errorMessage, WideSeekError } from "@wideseek/spec";
import { type Document, isMap, isNode, LineCounter, parse, parseDocument, stringify } from "yaml";
import type { z } from "zod";
import { resultSettings } from "./compare.ts";
import { type RunConfig, runConfigSchema } from "./schema.ts";
import { describeUnknownKey } from "./unknown-key.ts";

export interface LoadConfigOptions {
  /** YAML file; absent = the defaults. */
  file?: string | undefined;
  /** "a.b=1": the value is YAML; later ones win. */
  overrides?: readonly string[] | undefined;
}

interface Override {
  /** As it may be shown. */
  text: string;
  path: string[];
  value: unknown;
}

/**
 * A complete config: what the file and overrides say, the defaults for the rest.
 * @throws WS_IO when the file cannot be read, WS_INVALID_ARGUMENT naming file, line and key, or the override
 */
export async function loadConfig(options: LoadConfigOptions): Promise<RunConfig> {
  return await loadSettings(runConfigSchema, options);
}

/** As `loadConfig`, for settings of another schema. */
export async function loadSettings<T>(schema: z.ZodType<T>, { file, overrides = [] }: LoadConfigOptions): Promise<T> {
  const lines = new LineCounter();
  const document = file === undefined ? undefined : await readDocument(file, lines);
  const settings = overrides.map(parseOverride);
  if (document) leaveOtherSource(document, settings);
  const values = document === undefined ? {} : asMap(document.toJS() ?? {}, file ?? "");
  for (const override of settings) setIn(values, override);
  const parsed = schema.safeParse(values);
  if (parsed.success) return parsed.data;
  throw configError(parsed.error.issues[0] as z.core.$ZodIssue, values, { schema, file, document, lines, settings });
}

/** The config as a YAML file that `loadConfig` reads back to the same. */
export function formatConfig(config: RunConfig): string {
  return stringify(config, { lineWidth: 120 });
}

/** SHA-256 over the settings that results depend on. */
export function hashConfig(config: RunConfig): string {
  return createHash("sha256")
    .update(stringify(resultSettings(config), { sortMapEntries: true }))
    .digest("hex");
}

async function readDocument(file: string, lines: LineCounter): Promise<Document> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    const reason = isMissing ? "no such file; name a YAML file by --config" : errorMessage(error);
    throw new WideSeekError("WS_IO", `${file}: cannot read the config: ${reason}`, { cause: error });
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (!problem) return document;
  const { line } = lines.linePos(problem.pos[0]);
  throw invalid(`${file}:${line}: broken YAML: ${problem.message}`, { file, line });
}

function parseOverride(text: string): Override {
  const equals = text.indexOf("=");
  const path = text.slice(0, equals).split(".");
  const shown = withoutSecrets(text);
  if (equals < 1 || path.some((key) => !/^\w+$/.test(key) || key === "__proto__")) {
    throw invalid(`--set ${shown}: must look like train.steps=10`, { override: shown });
  }
  try {
    return { text: shown, path, value: parse(text.slice(equals + 1)) };
  } catch (error) {
    const problem = withoutSecrets(errorMessage(error).split("\n")[0] ?? "");
    throw invalid(`--set ${shown}: the value is not YAML: ${problem}`, { override: shown });
  }
}

/** Where an API key was given instead of the name of its variable, no message may repeat it. */
function withoutSecrets(text: string): string {
  return text
    .replace(/^([\w.]*(?:key|keyenv|secret|password)=).*$/is, "$1...")
    .replace(/((?:key|keyenv|secret|password)["']?\s*:\s*)(?:"[^"]*"|'[^']*'|[^\s,}]+)/gi, "$1...")
    .replaceAll(/\b(?:sk|pk|key|token)[-_][\w-]{12,}/gi, "...");
}

/** Keys of one data source mean nothing to another: when an override switches it, the file's section is left behind. */
function leaveOtherSource(document: Document, settings: readonly Override[]): void {
  const chosen = settings.findLast(({ path }) => path.join(".") === "data.source");
  const source = document.getIn(["data", "source"]);
  if (chosen && source !== undefined && source !== chosen.value) document.delete("data");
}

function setIn(values: Record<string, unknown>, { text, path, value }: Override): void {
  let target = values;
  for (const key of path.slice(0, -1)) {
    target[key] ??= {};
    target = asMap(target[key], `--set ${text}: ${key}`);
  }
  target[path.at(-1) as string] = value;
}

function asMap(value: unknown, where: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw invalid(`${where}: must be a map of settings`, { where });
}

interface Sources {
  schema: z.ZodType;
  file: string | undefined;
  document: Document | undefined;
  lines: LineCounter;
  settings: readonly Override[];
}

function configError(issue: z.core.$ZodIssue, values: unknown, sources: Sources): WideSeekError {
  const unknown = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const path = [...issue.path.map(String), ...(unknown === undefined ? [] : [unknown])];
  const key = path.join(".");
  const message =
    unknown === undefined ? describeIssue(issue, values) : describeUnknownKey(path, values, sources.schema);
  return invalid(`${location(path, sources)}${key === "" ? "" : `${key}: `}${message}`, { key, file: sources.file });
}

/** The override that set the key, or else file and line, or override, of the nearest section around it. */
function location(path: readonly string[], { file, document, lines, settings }: Sources): string {
  const startsWith = (long: readonly string[], short: readonly string[]): boolean =>
    short.every((key, index) => long[index] === key);
  const setter = settings.findLast((override) => startsWith(path, override.path));
  if (setter) return `--set ${setter.text}: `;
  for (let depth = path.length; depth > 0; depth--) {
    const section = path.slice(0, depth);
    const start = keyOffset(document, section);
    if (start !== undefined) return `${file}:${lines.linePos(start).line}: `;
    const opener = settings.findLast((override) => startsWith(override.path, section));
    if (opener) return `--set ${opener.text}: `;
  }
  return file === undefined ? "" : `${file}: `;
}

function keyOffset(document: Document | undefined, path: readonly string[]): number | undefined {
  const parent = path.length === 1 ? document?.contents : document?.getIn(path.slice(0, -1), true);
  if (!isMap(parent)) return undefined;
  const pair = parent.items.find((item) => isNode(item.key) && String(item.key) === path.at(-1));
  return pair && isNode(pair.key) ? pair.key.range?.[0] : undefined;
}

function invalid(message: string, details: Record<string, unknown>): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "loadConfig", details });
}
