// Builds the addon with cmake-js: incremental, without any download, and silent unless something is compiled.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const buildDir = join(root, "build");

/** True if the command starts and exits with 0. */
function works(command) {
  return spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0;
}

function fail(message) {
  console.error(message);
  process.exit(1);
}

const compilers = process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"];
const missing = [];
if (!works("cmake")) missing.push("CMake 3.20 or newer");
if (!compilers.some(works)) missing.push("a C++20 compiler (g++ 11 or clang++ 14, or newer)");
if (missing.length > 0) {
  const hint =
    process.platform === "darwin" ? "xcode-select --install; brew install cmake" : "apt-get install cmake g++";
  fail(`wideseek needs ${missing.join(" and ")} to build its native core; for example: ${hint}`);
}

/** True while the process that wrote the lock runs; one that was killed leaves its lock behind. */
function isHeld(lock) {
  try {
    process.kill(Number(readFileSync(lock, "utf8")), 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

/** Two builds in one directory would destroy each other's files, so the second one waits. */
function takeLock(lock) {
  mkdirSync(buildDir, { recursive: true });
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: "wx" });
      process.on("exit", () => rmSync(lock, { force: true }));
      return;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      if (!isHeld(lock)) rmSync(lock, { force: true });
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    }
  }
}

takeLock(join(buildDir, ".lock"));

// A configure step that failed half-way leaves a cache that cmake-js would take for a finished one.
const configured = ["build.ninja", "Makefile"].some((name) => existsSync(join(buildDir, name)));
if (!configured) rmSync(join(buildDir, "CMakeCache.txt"), { force: true });

const require = createRequire(import.meta.url);
const cmakeJs = join(dirname(require.resolve("cmake-js/package.json")), "bin", "cmake-js");
const build = spawn(process.execPath, [cmakeJs, "build", "--directory", root, "--out", buildDir], { cwd: root });

let begun = 0;
/** A compilation takes minutes on a small machine; without this line it looks like a program that hangs. */
function announce() {
  if (begun > 0) return;
  begun = performance.now();
  console.error("compiling the native engine, once; some three minutes on two free cores");
}

let shown = 0;
/** One line that is rewritten on a terminal; elsewhere one for every tenth part. Ninja says "[3/120]", make "[  2%]". */
function showProgress(text) {
  const [, done, total, share] = [...text.matchAll(/^\[ *(?:(\d+)\/(\d+)|(\d+)%)\]/gm)].at(-1) ?? [];
  const percent = Math.floor(share ?? (100 * done) / total);
  if (Number.isNaN(percent) || begun === 0) return;
  if (process.stderr.isTTY) process.stderr.write(`\rcompiled ${percent} %${percent === 100 ? "\n" : ""}`);
  else if (percent >= shown + 10) console.error(`compiled ${percent} %`);
  else return;
  shown = percent;
}

const log = [];
for (const stream of [build.stdout, build.stderr]) {
  stream.setEncoding("utf8").on("data", (text) => {
    log.push(text);
    // Ninja and make both name each object so; when all is up to date there is none.
    if (/Building \w+ object/.test(text)) announce();
    showProgress(text);
  });
}
// Ninja names an object when it is finished, which is late for the first one.
if (!configured) announce();

build.on("error", (error) => fail(`wideseek: cannot start cmake-js: ${error.message}`));
build.on("close", (status) => {
  if (status !== 0) fail(`${log.join("")}wideseek: the native build failed (see the log above)`);
  if (begun > 0) console.error(`compiled the native engine in ${Math.round((performance.now() - begun) / 1000)} s`);
});
