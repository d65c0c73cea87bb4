// Packs what a bare GPU host needs into one folder: Node, the built app, the native programs, the tiny model, the golden
// data and run.sh. Builds first. Fails above 60 MB. Usage: pnpm run pack:gpu [FOLDER] [--no-build]
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  globSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";

const limitBytes = 60e6;
const root = resolve(import.meta.dirname, "../..");
const shared = process.env.WIDESEEK_SHARED ?? resolve(root, "../shared");
// pnpm hands a literal "--" on.
const { values, positionals } = parseArgs({
  args: process.argv.slice(2).filter((arg) => arg !== "--"),
  allowPositionals: true,
  options: { "no-build": { type: "boolean", default: false } },
});
const bundle = resolve(positionals[0] ?? join(root, "build/gpu-bundle"));
const cache = join(root, "build/gpu-cache");

function fail(message) {
  console.error(`pack: ${message}`);
  process.exit(1);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    ...options,
  });
  if (status !== 0) fail(`${command} ${args.join(" ")}: ${error?.message ?? `exit code ${status}`}`);
}

function text(command, args) {
  const { status, stdout } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  return status === 0 ? stdout.trim() : null;
}

const nativeFiles = [
  "Release/wideseek.node",
  "Release/libwideseek_cuda.so",
  "wideseek_native_test",
  "cuda_bench",
  "train_shape_bench",
  "generation_bench",
  "sharing_bench",
];

function build() {
  run(process.execPath, ["native/build.mjs"]);
  if (!existsSync(join(root, "native/build/Release/libwideseek_cuda.so"))) {
    fail("the native build made no libwideseek_cuda.so: is nvcc on the path?");
  }
  // Not part of the ordinary build: it runs on a GPU alone.
  run("cmake", ["--build", "native/build", "--target", "cuda_bench"], { stdio: ["ignore", "ignore", "inherit"] });
  run(join(root, "node_modules/.bin/tsc"), ["-b", "packages/cli"]);
}

const isDropped = (path) =>
  /\.(d\.[cm]?ts|map|md|tsbuildinfo|test\.(js|ts))$/.test(path) ||
  // Prebuilt for other platforms.
  (/\.[^.]+\.node$/.test(basename(path)) && !path.includes("linux-x64-gnu"));

function copy(from, to, filter = () => true) {
  cpSync(from, to, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !isDropped(path) && filter(path),
  });
}

/** The link or folder by which the package in `folder` finds another one, as Node looks for it. */
function findDependency(folder, name) {
  for (let at = folder; at.startsWith(root); at = dirname(at)) {
    const path = join(at, "node_modules", name);
    if (existsSync(path)) return path;
  }
  return null;
}

/** Copies the package in `folder` and all that it needs to run, with the layout and the links of this repository. */
function copyPackage(folder, stage, seen) {
  if (seen.has(folder)) return;
  seen.add(folder);
  const target = join(stage, relative(root, folder));
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8"),
  );
  const isOurs = !folder.includes("node_modules");
  // The native package's files are picked one by one; what it depends on only builds it.
  if (folder === join(root, "native")) return;
  const hidden = isOurs ? ["src", "node_modules", "fixtures", "tsconfig.json"] : ["node_modules"];
  copy(folder, target, (path) => dirname(path) !== folder || !hidden.includes(basename(path)));
  for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
    const found = findDependency(folder, name);
    if (found === null) {
      if (name in optionalDependencies) continue; // of another platform
      fail(`${relative(root, folder)} needs ${name}, which is not installed: run pnpm install`);
    }
    if (lstatSync(found).isSymbolicLink()) {
      const link = join(stage, relative(root, found));
      mkdirSync(dirname(link), { recursive: true });
      if (!existsSync(link)) symlinkSync(readlinkSync(found), link);
    }
    copyPackage(realpathSync(found), stage, seen);
  }
}

function copyNative(stage) {
  for (const name of nativeFiles) {
    const from = join(root, "native/build", name);
    if (!existsSync(from)) fail(`${relative(root, from)} is missing: run without --no-build`);
    const to = join(stage, "native/build", name);
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(from, to);
    run("strip", ["--strip-unneeded", to]);
  }
  for (const name of ["package.json", "index.mjs"])
    copyFileSync(join(root, "native", name), join(stage, "native", name));
}

function copyData(stage) {
  for (const path of ["models/wideseek-tiny", "configs", "package.json", "LICENSE"])
    copy(join(root, path), join(stage, path));
  // Node strips types, so the run itself needs no build step; the golden cases reach below the public surface.
  const sources = ["benchmarks/gpu-acceptance/*.{ts,py}", "benchmarks/figures.ts", "packages/engine/src/*.ts"];
  for (const path of globSync([...sources, "test/golden/data.ts", "test/shared-data.ts"], { cwd: root })) {
    copy(join(root, path), join(stage, path));
  }
  for (const path of ["golden", "peers/bench_torch_gpu.py"]) {
    if (!existsSync(join(shared, path))) fail(`no ${path} in ${shared}; set WIDESEEK_SHARED`);
    copy(join(shared, path), join(stage, "shared", path));
  }
  // Read-only folders could not be removed again.
  run("chmod", ["-R", "u+w", stage]);
}

/** Compressing takes a minute, so the result is kept for the next time. */
function packNode(to) {
  const binary = realpathSync(join(root, "node_modules/node/bin/node"));
  const version = text(binary, ["--version"]) ?? fail(`${binary} does not run`);
  const kept = join(cache, `node-${version}-${process.platform}-${process.arch}.xz`);
  if (!existsSync(kept)) {
    mkdirSync(cache, { recursive: true });
    const part = join(cache, "node");
    copyFileSync(binary, part);
    chmodSync(part, 0o755);
    run("strip", [part]); // keeps the symbols that addons bind to
    run("xz", ["-9", "-T0", "--force", part]);
    renameSync(`${part}.xz`, kept);
  }
  copyFileSync(kept, to);
  return version;
}

function manifest(nodeVersion) {
  const nvcc = /release [\d.]+, (V[\d.]+)/.exec(text("nvcc", ["--version"]) ?? "")?.[1];
  return {
    commit: text("git", ["rev-parse", "--short=12", "HEAD"]),
    dirty: text("git", ["status", "--porcelain", "--", ".", ":!benchmarks/results", ":!BENCHMARKS.md"]) !== "",
    date: new Date().toISOString(),
    node: nodeVersion,
    nvcc: nvcc ?? null,
    platform: `${process.platform}-${process.arch}`,
  };
}

if (!values["no-build"]) build();
const stage = mkdtempSync(join(tmpdir(), "wideseek-pack-"));
try {
  rmSync(bundle, { recursive: true, force: true });
  mkdirSync(bundle, { recursive: true });
  copyPackage(join(root, "packages/cli"), stage, new Set());
  copyNative(stage);
  copyData(stage);
  const facts = `${JSON.stringify(manifest(packNode(join(bundle, "node.xz"))), null, 1)}\n`;
  for (const folder of [stage, bundle]) writeFileSync(join(folder, "manifest.json"), facts);
  copyFileSync(join(root, "benchmarks/gpu-acceptance/run.sh"), join(bundle, "run.sh"));
  const tar = execFileSync("tar", ["--sort=name", "--owner=0", "--group=0", "-C", stage, "-cf", "-", "."], {
    maxBuffer: 2 ** 30,
  });
  writeFileSync(
    join(bundle, "app.tar.xz"),
    execFileSync("xz", ["-9", "-T1", "-c"], { input: tar, maxBuffer: 2 ** 30 }),
  );
} finally {
  rmSync(stage, { recursive: true, force: true });
}

const files = readdirSync(bundle).map((name) => ({ name, bytes: statSync(join(bundle, name)).size }));
for (const { name, bytes } of files) console.log(`${(bytes / 1e6).toFixed(1).padStart(6)} MB  ${name}`);
const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
console.log(`${(total / 1e6).toFixed(1).padStart(6)} MB  ${bundle}`);
if (total > limitBytes) fail(`more than ${limitBytes / 1e6} MB`);
