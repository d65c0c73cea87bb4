// Formats (--write) or checks (--check) the native sources with clang-format 15 of the npm package, else the one on PATH.
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

function fail(message) {
  console.error(message);
  process.exit(1);
}

function findBinary() {
  const folder = dirname(createRequire(import.meta.url).resolve("clang-format/package.json"));
  const bundled = join(folder, "bin", `${process.platform}_${process.arch}`, "clang-format");
  const found = [bundled, "clang-format-15", "clang-format"].find(
    (binary) => spawnSync(binary, ["--version"]).status === 0,
  );
  return (
    found ?? fail("clang-format: no binary for this platform in the npm package and none on PATH; install version 15")
  );
}

const mode = process.argv[2];
if (process.argv.length !== 3 || !["--check", "--write"].includes(mode))
  fail("usage: clang-format.mjs --check|--write");

const files = globSync("native/{src,test,bench}/**/*.{h,cc,cu,cuh}", { cwd: root }).sort();
if (files.length === 0) fail("clang-format: no native sources found");
const options = mode === "--write" ? ["-i"] : ["--dry-run", "--Werror", "--ferror-limit=3"];
const { status, error } = spawnSync(findBinary(), ["--style=file", ...options, ...files], {
  cwd: root,
  stdio: "inherit",
});
if (error) fail(`clang-format: ${error.message}`);
if (status !== 0 && mode === "--check") console.error("clang-format: run `pnpm run format`");
process.exit(status ?? 1);
