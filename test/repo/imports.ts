// Reads import graphs from source text: TypeScript imports and C++ includes. Knows no layer rule.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root: string = join(dirname(fileURLToPath(import.meta.url)), "../..");

export interface SourceFile {
  /** Relative to the repository root. */
  path: string;
  text: string;
  numLines: number;
}

export function sourceFiles(pattern: string): SourceFile[] {
  return globSync(pattern, { cwd: root, exclude: (path) => /(^|\/)(node_modules|dist|build)$/.test(path) })
    .sort()
    .map((path) => {
      const text = readFileSync(join(root, path), "utf8");
      return { path, text, numLines: text.split("\n").length - 1 };
    });
}

export interface TypeScriptImport {
  specifier: string;
  /** `import type`: gone after compilation, so it can make no cycle at run time. */
  typeOnly: boolean;
}

export function typeScriptImports(text: string): TypeScriptImport[] {
  const statements = text.matchAll(/^\s*(?:import|export)\s+(type\s)?(?:[^"';]*?\sfrom\s+)?"([^"]+)"/gm);
  const dynamic = text.matchAll(/\bimport\("([^"]+)"\)/g);
  return [
    ...[...statements].map((match) => ({ specifier: match[2] ?? "", typeOnly: match[1] !== undefined })),
    ...[...dynamic].map((match) => ({ specifier: match[1] ?? "", typeOnly: false })),
  ];
}

export function cppIncludes(text: string): { path: string; system: boolean }[] {
  return [...text.matchAll(/^\s*#\s*include\s+(<([^>]+)>|"([^"]+)")/gm)].map((match) => ({
    path: match[2] ?? match[3] ?? "",
    system: match[2] !== undefined,
  }));
}

/** Repository path of a relative import. */
export function resolveRelative(from: string, specifier: string): string {
  return relative(root, join(root, dirname(from), specifier));
}

/** The first cycle as the path that closes it, or null. */
export function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | null {
  const done = new Set<string>();
  const visit = (node: string, path: readonly string[]): string[] | null => {
    const start = path.indexOf(node);
    if (start >= 0) return [...path.slice(start), node];
    if (done.has(node)) return null;
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next, [...path, node]);
      if (cycle) return cycle;
    }
    done.add(node);
    return null;
  };
  for (const node of graph.keys()) {
    const cycle = visit(node, []);
    if (cycle) return cycle;
  }
  return null;
}
