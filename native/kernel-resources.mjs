// Prints what every CUDA kernel takes: registers, spills, stack, shared memory; exit code 1 if one spills. Compiles each
// file for the given architecture (sm_90a by default) with ptxas -v, which needs nvcc but neither a GPU nor cuobjdump.
// Usage: node kernel-resources.mjs [sm_80|sm_90a|...] [part of a file name]
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const [architecture = "sm_90a", filter = ""] = process.argv.slice(2);
const options = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "-fmad=false", `-I${join(root, "src")}`];
options.push('-DWIDESEEK_INTERFACE=""', `-arch=${architecture}`, "-cubin", "-Xptxas", "-v", "-o", "/dev/null");

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
  return parts.map((part) => ({
    name: part.slice(0, part.indexOf("'")),
    registers: number(part, /Used (\d+) registers/),
    spills: number(part, /(\d+) bytes spill stores/) + number(part, /(\d+) bytes spill loads/),
    stack: number(part, /(\d+) bytes stack frame/),
    shared: number(part, /(\d+) bytes smem/),
  }));
}

const folder = join(root, "src/cuda");
const sources = readdirSync(folder).filter((file) => file.endsWith(".cu") && file.includes(filter));
let spilling = 0;
console.log(`${architecture}: registers of a thread, bytes of spills, of stack and of static shared memory`);
for (const file of sources) {
  const build = spawnSync("nvcc", [...options, join(folder, file)], { encoding: "utf8", maxBuffer: 1 << 26 });
  if (build.error) fail(`nvcc could not be started: ${build.error.message}`);
  if (build.status !== 0) fail(`${build.stdout}${build.stderr}`);
  const kernels = parse(build.stdout + build.stderr);
  const names = demangle(kernels.map((kernel) => kernel.name));
  kernels.forEach(({ registers, spills, stack, shared }, i) => {
    spilling += spills > 0 ? 1 : 0;
    const numbers = [registers, spills, stack, shared].map((value) => String(value).padStart(7)).join("");
    console.log(`${numbers}  ${file}  ${names[i]}`);
  });
}
if (spilling > 0) fail(`${spilling} kernels spill registers`);
