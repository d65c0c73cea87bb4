// What native/build.mjs says, with a stub in place of cmake-js: one line when it compiles, nothing when it need not.
import { spawnSync } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const script = fileURLToPath(new URL("../../native/build.mjs", import.meta.url));
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-build-"));
  await copyFile(script, path.join(directory, "build.mjs"));
  await mkdir(path.join(directory, "build"));
  await mkdir(path.join(directory, "node_modules/cmake-js/bin"), { recursive: true });
  await writeFile(path.join(directory, "node_modules/cmake-js/package.json"), "{}");
  for (const tool of ["cmake", "c++"]) {
    await writeFile(path.join(directory, tool), "#!/bin/sh\n");
    await chmod(path.join(directory, tool), 0o755);
  }
});
afterEach(() => rm(directory, { recursive: true }));

async function build(cmakeJs: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await writeFile(path.join(directory, "node_modules/cmake-js/bin/cmake-js"), cmakeJs);
  const env = { PATH: `${directory}:${process.env.PATH}` };
  return spawnSync(process.execPath, [path.join(directory, "build.mjs")], { encoding: "utf8", env });
}

const compiling = "compiling the native engine, once; some three minutes on two free cores\n";
const configured = (): Promise<void> => writeFile(path.join(directory, "build/build.ninja"), "");

test("nothing is said when all is up to date", async () => {
  await configured();
  expect(await build("console.log('ninja: no work to do.')")).toMatchObject({ status: 0, stdout: "", stderr: "" });
});

test.each(["[1/30] Building CXX object a.cc.o", "[  3%] Building CUDA object a.cu.o"])(
  "%s is announced",
  async (line) => {
    await configured();
    const { status, stderr } = await build(`console.log(${JSON.stringify(`${line}\n${line}`)})`);
    expect(status).toBe(0);
    expect(stderr.replace(/\d+ s\n$/, "")).toBe(`${compiling}compiled the native engine in `);
  },
);

test.each([
  ["[3/120] Building CXX object a.cc.o\n[12/120] Building CXX object b.cc.o", 10],
  ["[  3%] Building CUDA object a.cu.o\n[ 42%] Building CUDA object b.cu.o", 42],
])("%j shows how far it is", async (lines, percent) => {
  const { stderr } = await build(`console.log(${JSON.stringify(lines)})`);
  expect(stderr).toContain(`${compiling}compiled ${percent} %\ncompiled the native`);
});

test("a first build is announced before it begins, and its log is shown when it fails", async () => {
  const { status, stderr } = await build("console.log('a.cc:1: error'); process.exit(1)");
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `${compiling}a.cc:1: error\nwideseek: the native build failed (see the log above)\n`,
  });
});
