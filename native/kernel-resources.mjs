// Prints what every CUDA kernel takes: registers, spills, stack, shared memory; exit code 1 if one spills more than
// kernel-limits.json allows, which is nothing for kernels that it does not name, or if ptxas says that it made products
// of a warpgroup wait for each other. Compiles each file for the given
// architectures (all of the limits by default) with ptxas -v, which needs nvcc but neither a GPU nor cuobjdump, and
// keeps the answers in build/. Without nvcc it says so and passes.
// Usage: node kernel-resources.mjs [sm_80|sm_90a|...] [part of a file name]
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const folder = join(root, "src/cuda");
const cache = join(root, "build/kernel-resources");
const options = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "-fmad=false", `-I${join(root, "src")}`];
options.push('-DWIDESEEK_INTERFACE=""', "-cubin", "-Xptxas", "-v", "-o", "/dev/null");
/** Bytes of spills by architecture and kernel. */
const limits = JSON.parse(readFileSync(join(root, "kernel-limits.json"), "utf8"));
const [only, filter = ""] = process.argv.slice(2);
const architectures = only === undefined ? Object.keys(limits) : [only];

function fail(message) {
  console.error(message);
  process.exit(1);
}

/** Readable names, in the same order; the mangled ones where there is no c++filt. */
function demangle(names) {
  const filtered = spawnSync("c++filt", { input: names.join("\n"), encoding: "utf8" });
  const lines = filtered.status === 0 ? filtered.stdout.trimEnd().split("\n") : names;
  return lines.map((name) =>
    name
      .replace(/^void /, "")
      .replaceAll(/wideseek::(cuda::)?|\(anonymous namespace\)::/g, "")
      .replaceAll(/\((?:int|bool)\)/g, "")
      .replace(/\(.*$/, ""),
  );
}

/** The first group of the match as a number, 0 without one. */
function number(text, pattern) {
  return Number(pattern.exec(text)?.[1] ?? 0);
}

/** One entry for each kernel that ptxas reports. */
function parse(log) {
  const parts = log.split(/Compiling entry function '/).slice(1);
  const symbols = parts.map((part) => part.slice(0, part.indexOf("'")));
  const names = demangle(symbols);
  const serialized = [...log.matchAll(/wgmma\.mma_async instructions are serialized .* function '([^']+)'/g)];
  return parts.map((part, i) => ({
    name: names[i],
    serialized: serialized.some((match) => match[1] === symbols[i]),
    registers: number(part, /Used (\d+) registers/),
    spills: number(part, /(\d+) bytes spill stores/) + number(part, /(\d+) bytes spill loads/),
    stack: number(part, /(\d+) bytes stack frame/),
    shared: number(part, /(\d+) bytes smem/),
  }));
}

function compile(file, architecture) {
  return new Promise((resolve) => {
    const nvcc = spawn("nvcc", [...options, `-arch=${architecture}`, join(folder, file)]);
    let log = "";
    for (const stream of [nvcc.stdout, nvcc.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        log += text;
      });
    }
    nvcc.on("error", (error) => fail(`nvcc could not be started: ${error.message}`));
    nvcc.on("close", (status) => (status === 0 ? resolve(log) : fail(log)));
  });
}

/** All that a file's kernels are made from, the compiler too. */
function fingerprint(file, compiler) {
  const hash = createHash("sha256").update(compiler).update(options.join(" "));
  const headers = ["", "cuda", "base", "train"].flatMap((part) =>
    readdirSync(join(root, "src", part))
      .filter((name) => name.endsWith(".h"))
      .map((name) => join(root, "src", part, name)),
  );
  for (const path of [...headers, join(folder, file), fileURLToPath(import.meta.url)]) hash.update(readFileSync(path));
  return hash.digest("hex");
}

async function resources(file, architecture, compiler) {
  const known = join(cache, `${file}.${architecture}.json`);
  const key = fingerprint(file, compiler);
  if (existsSync(known)) {
    const stored = JSON.parse(readFileSync(known, "utf8"));
    if (stored.key === key) return stored.kernels;
  }
  const kernels = parse(await compile(file, architecture));
  mkdirSync(cache, { recursive: true });
  writeFileSync(known, JSON.stringify({ key, kernels }));
  return kernels;
}

const version = spawnSync("nvcc", ["--version"], { encoding: "utf8" });
if (version.error) {
  console.log("kernel resources: skipped, there is no nvcc");
  process.exit(0);
}
const sources = readdirSync(folder).filter((file) => file.endsWith(".cu") && file.includes(filter));
let tooMany = 0;
let numSerialized = 0;
for (const architecture of architectures) {
  const found = new Map();
  const waiting = [...sources];
  const work = async () => {
    for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
      found.set(file, await resources(file, architecture, version.stdout));
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  console.log(`${architecture}: registers of a thread, bytes of spills, of stack and of static shared memory`);
  for (const file of sources) {
    for (const { name, registers, spills, stack, shared, serialized } of found.get(file)) {
      const limit = limits[architecture]?.[`${file} ${name}`] ?? 0;
      const numbers = [registers, spills, stack, shared].map((value) => String(value).padStart(7)).join("");
      const trouble = `${spills > limit ? `  SPILLS MORE THAN ${limit} BYTES` : ""}${serialized ? "  PRODUCTS SERIALIZED" : ""}`;
      console.log(`${numbers}  ${file}  ${name}${trouble}`);
      tooMany += spills > limit ? 1 : 0;
      numSerialized += serialized ? 1 : 0;
    }
  }
}
if (tooMany > 0) fail(`${tooMany} kernels spill more registers than kernel-limits.json allows`);
if (numSerialized > 0)
  fail(`ptxas serialized the products of ${numSerialized} kernels; compile with -Xptxas -v for why`);
console.log("kernel resources: no kernel spills more than kernel-limits.json allows");
