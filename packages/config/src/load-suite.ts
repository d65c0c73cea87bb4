// Reads a suite by its name or file. Owns where suites lie and how a mistake in one is reported.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { describeIssue, errorMessage, WideSeekError } from "@wideseek/spec";
import { parse } from "yaml";
import { type Suite, suiteSchema } from "./suite-schema.ts";

const SUITES = "configs/suites";

/** @param nameOrFile "paper-table1", or a YAML file. @throws WS_INVALID_ARGUMENT, WS_IO naming the known suites or the key */
export async function loadSuite(
  nameOrFile: string,
  directory: string = SUITES,
): Promise<{ name: string; suite: Suite }> {
  const isFile = /\.ya?ml$/.test(nameOrFile);
  const file = isFile ? nameOrFile : path.join(directory, `${nameOrFile}.yaml`);
  const name = path.basename(file).replace(/\.ya?ml$/, "");
  const known = await knownSuites(directory);
  if (!isFile && !known.includes(nameOrFile)) {
    const list = known.length > 0 ? known.join(", ") : `none, ${directory} is missing here`;
    throw invalid(`--suite ${nameOrFile}: no such suite; known suites: ${list}; or name a YAML file`, {
      suite: nameOrFile,
    });
  }
  return { name, suite: parseSuite(await readText(file), file) };
}

/** @throws WS_INVALID_ARGUMENT naming `where` and the key */
export function parseSuite(text: string, where: string): Suite {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw invalid(`${where}: broken YAML: ${errorMessage(error).split("\n")[0]}`, { where });
  }
  const parsed = suiteSchema.safeParse(value);
  const issue = parsed.error?.issues[0];
  if (!parsed.success) {
    throw invalid(`${where}: ${issue?.path.map(String).join(".")}: ${issue ? describeIssue(issue, value) : ""}`, {
      where,
    });
  }
  const { rows, models, columns } = parsed.data;
  for (const [id, row] of Object.entries(rows)) {
    for (const [role, model] of Object.entries(row.models)) {
      if (Object.hasOwn(models, model)) continue;
      throw invalid(`${where}: rows.${id}.models.${role}: no model ${model}; models are ${names(models)}`, { where });
    }
    const unknown = Object.keys(row.published).find((column) => !Object.hasOwn(columns, column));
    if (unknown === undefined) continue;
    throw invalid(`${where}: rows.${id}.published: no column ${unknown}; columns are ${names(columns)}`, { where });
  }
  return parsed.data;
}

const names = (record: object): string => Object.keys(record).join(", ");

async function knownSuites(directory: string): Promise<string[]> {
  try {
    const files = await readdir(directory);
    return files
      .filter((file) => file.endsWith(".yaml"))
      .map((file) => file.slice(0, -".yaml".length))
      .sort();
  } catch {
    return [];
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new WideSeekError("WS_IO", `${file}: cannot read the suite: ${errorMessage(error)}`, { cause: error });
  }
}

function invalid(message: string, details: Record<string, unknown>): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", message, { op: "loadSuite", details });
}
