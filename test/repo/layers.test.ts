// The architecture as assertions: who may import or include whom, no cycles, no file beyond its size.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  cppIncludes,
  findCycle,
  resolveRelative,
  root,
  type SourceFile,
  sourceFiles,
  typeScriptImports,
} from "./imports.ts";

const leaves = ["engine", "text", "llm", "tools", "retrieval", "rewards", "data", "train", "eval"];
/** Package to the packages of ours that it may import. A leaf knows `spec` only. */
const allowedPackages: Readonly<Record<string, readonly string[]>> = {
  spec: [],
  ...Object.fromEntries(leaves.map((leaf) => [leaf, ["spec"]])),
  engine: ["spec", "native"],
  // Replies of models and pages of the web are kept alike.
  cache: ["spec"],
  llm: ["spec", "cache"],
  tools: ["spec", "cache"],
  agents: ["spec", "text"],
  // Other systems' teams under the same time limit and seeds as our agents.
  workflows: ["spec", "agents"],
  // Option schemas of the leaves; without the engine, so that reading a config never loads the addon.
  config: ["spec", "agents", "workflows", ...leaves.filter((leaf) => leaf !== "engine")],
  core: ["spec", "cache", "agents", "workflows", "config", ...leaves],
  cli: ["core", "core/tooling"],
};

/** What tests of every package may use beside their own layer. */
const testHelpers = ["llm/testing"];

const typeScript = sourceFiles("packages/*/src/**/*.ts");
const packageOf = (path: string): string => path.split("/")[1] ?? "";
const isTest = (path: string): boolean => path.endsWith(".test.ts") || /\/testing(\.ts$|\/)/.test(path);

describe("TypeScript", () => {
  test("every package has a rule", () => {
    expect([...new Set(typeScript.map((file) => packageOf(file.path)))].sort()).toEqual(
      Object.keys(allowedPackages).sort(),
    );
  });

  test("packages import only along the architecture's edges", () => {
    const wrong = typeScript.flatMap(({ path, text }) =>
      typeScriptImports(text)
        .filter(({ specifier }) => specifier.startsWith("@wideseek/"))
        .map(({ specifier }) => specifier.slice("@wideseek/".length))
        .filter((name) => !(allowedPackages[packageOf(path)] ?? []).includes(name))
        .filter((name) => !(isTest(path) && testHelpers.includes(name)))
        .map((name) => `${path} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  test("relative imports stay inside their package and end in .ts", () => {
    const wrong = typeScript.flatMap(({ path, text }) =>
      typeScriptImports(text)
        .filter(({ specifier }) => specifier.startsWith("."))
        .filter(
          ({ specifier }) =>
            !/\.(ts|json)$/.test(specifier) ||
            (!isTest(path) && !resolveRelative(path, specifier).startsWith(`packages/${packageOf(path)}/src/`)),
        )
        .map(({ specifier }) => `${path} imports ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  test("imported packages are declared where they are imported", () => {
    const rootManifest = manifest("package.json");
    const wrong = typeScript.flatMap(({ path, text }) => {
      const declared = {
        ...manifest(`packages/${packageOf(path)}/package.json`),
        ...(isTest(path) ? rootManifest : {}),
      };
      return typeScriptImports(text)
        .map(({ specifier }) => /^(@[^/]+\/[^/]+|[^./][^/]*)/.exec(specifier)?.[1] ?? "")
        .filter((name) => name !== "" && !name.startsWith("node:") && !(name in declared))
        .map((name) => `${path} imports ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  test("folders are made by makeFolder: a recursive mkdir never ends under /proc", () => {
    const wrong = typeScript.filter(({ path, text }) => !isTest(path) && /mkdir\w*\([^;]*recursive/.test(text));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });

  test("no import cycles", () => {
    const graph = new Map(
      typeScript.map(({ path, text }) => [
        path,
        typeScriptImports(text)
          .filter(({ specifier, typeOnly }) => specifier.startsWith(".") && !typeOnly)
          .map(({ specifier }) => resolveRelative(path, specifier)),
      ]),
    );
    expect(findCycle(graph)).toBeNull();
  });
});

function manifest(path: string): Record<string, string> {
  const { dependencies, devDependencies } = JSON.parse(readFileSync(join(root, path), "utf8"));
  return { ...dependencies, ...devDependencies };
}

// Each layer may include itself and what is below: napi > engine > {infer, train, io} > model > backend > base.
const nativeLayers: Readonly<Record<string, readonly string[]>> = {
  base: [],
  backend: ["base"],
  cpu: ["backend", "base"],
  cuda: ["backend", "base"],
  model: ["backend", "base"],
  infer: ["model", "backend", "base"],
  train: ["model", "backend", "base"],
  io: ["model", "backend", "base"],
  engine: ["infer", "train", "io", "model", "backend", "base"],
  napi: ["engine", "infer", "train", "io", "model", "backend", "base"],
};
/** Plain structs that cross every layer; they include base only. */
const structHeaders = ["model/config.h", "train/batch.h"];

const native = sourceFiles("native/src/**/*.{h,cc,cu,cuh}");
const nativePath = (path: string): string => path.slice("native/src/".length);
/** Files directly under src/ (backend.h, backend_registry.cc, arena) are the backend seam. */
const layerOf = (path: string): string => (path.includes("/") ? (path.split("/")[0] ?? "") : "backend");

describe("C++", () => {
  test("every folder has a rule", () => {
    const folders = new Set(native.map(({ path }) => layerOf(nativePath(path))));
    expect([...folders].filter((folder) => !(folder in nativeLayers))).toEqual([]);
  });

  test("includes point one way", () => {
    const wrong = native.flatMap(({ path, text }) => {
      const from = nativePath(path);
      return cppIncludes(text)
        .filter((include) => !include.system && !structHeaders.includes(include.path))
        .filter(({ path: to }) => {
          const layer = layerOf(from);
          // The registry is the one place that names the CPU backend.
          if (from === "backend_registry.cc" && to === "cpu/backend_cpu.h") return false;
          return layerOf(to) !== layer && !(nativeLayers[layer] ?? []).includes(layerOf(to));
        })
        .map(({ path: to }) => `${from} includes ${to}`);
    });
    expect(wrong).toEqual([]);
  });

  test("quoted includes name files of ours from native/src", () => {
    const known = new Set(native.map(({ path }) => nativePath(path)));
    const wrong = native.flatMap(({ path, text }) =>
      cppIncludes(text)
        .filter((include) => !include.system && !known.has(include.path) && include.path !== "napi.h")
        .map((include) => `${path} includes ${include.path}`),
    );
    expect(wrong).toEqual([]);
  });

  test("the struct headers include base only", () => {
    const headers = native.filter(({ path }) => structHeaders.includes(nativePath(path)));
    expect(headers).toHaveLength(structHeaders.length);
    const quoted = headers.flatMap(({ text }) => cppIncludes(text).filter((include) => !include.system));
    expect(quoted.filter((include) => layerOf(include.path) !== "base")).toEqual([]);
  });

  test("napi.h only in napi/, CUDA headers only in cuda/", () => {
    const wrong = native.flatMap(({ path, text }) =>
      cppIncludes(text)
        .filter(
          (include) =>
            (/napi|node_api/.test(include.path) && layerOf(nativePath(path)) !== "napi") ||
            (/^(cuda|cublas|nccl|cudnn)/.test(include.path) && layerOf(nativePath(path)) !== "cuda"),
        )
        .map((include) => `${path} includes ${include.path}`),
    );
    expect(wrong).toEqual([]);
  });

  test("no include cycles", () => {
    const graph = new Map(
      native.map(({ path, text }) => [
        nativePath(path),
        cppIncludes(text)
          .filter((include) => !include.system)
          .map((include) => include.path),
      ]),
    );
    expect(findCycle(graph)).toBeNull();
  });
});

/** Hard limits; the aim is 300 and 400. */
const maxLines = { typeScript: 400, cpp: 550 };

test("files stay within their size", () => {
  const tooLong = (files: readonly SourceFile[], limit: number): string[] =>
    files.filter((file) => file.numLines > limit).map((file) => `${file.path}: ${file.numLines} lines, limit ${limit}`);
  const scripts = sourceFiles("{benchmarks,test}/**/*.{ts,mjs}");
  const nativeTests = sourceFiles("native/{test,bench}/**/*.{h,cc,cu}");
  expect([
    ...tooLong([...typeScript, ...scripts], maxLines.typeScript),
    ...tooLong([...native, ...nativeTests], maxLines.cpp),
  ]).toEqual([]);
});

describe("the graph readers", () => {
  test("see every form of import and include", () => {
    const text = `import type { A } from "./a.ts";\nimport {\n  B,\n} from "@wideseek/spec";\nexport * from "./c.ts";\nimport "./d.ts";\nawait import("./e.ts");`;
    expect(typeScriptImports(text)).toEqual([
      { specifier: "./a.ts", typeOnly: true },
      { specifier: "@wideseek/spec", typeOnly: false },
      { specifier: "./c.ts", typeOnly: false },
      { specifier: "./d.ts", typeOnly: false },
      { specifier: "./e.ts", typeOnly: false },
    ]);
    expect(cppIncludes('#include <napi.h>\n  # include "model/model.h"\n// #include "no.h"')).toEqual([
      { path: "napi.h", system: true },
      { path: "model/model.h", system: false },
    ]);
  });

  test("find cycles", () => {
    const graph = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ]);
    expect(findCycle(graph)).toEqual(["b", "c", "b"]);
    graph.set("c", []);
    expect(findCycle(graph)).toBeNull();
  });
});
