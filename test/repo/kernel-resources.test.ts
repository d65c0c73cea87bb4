// What native/kernel-resources.mjs says of kernels that spill, with a stub in place of nvcc.
import { spawnSync } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const script = fileURLToPath(new URL("../../native/kernel-resources.mjs", import.meta.url));
const log = `ptxas info    : Compiling entry function '_Z1kv' for 'sm_90a'
    24 bytes stack frame, 20 bytes spill stores, 24 bytes spill loads
ptxas info    : Used 255 registers, 512 bytes smem`;
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "wideseek-kernels-"));
  await copyFile(script, path.join(directory, "kernel-resources.mjs"));
  for (const part of ["cuda", "base", "train"]) await mkdir(path.join(directory, "src", part), { recursive: true });
  await writeFile(path.join(directory, "src/cuda/some.cu"), "");
  await mkdir(path.join(directory, "bin"));
});
afterEach(() => rm(directory, { recursive: true }));

async function check(limits: object): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await writeFile(path.join(directory, "kernel-limits.json"), JSON.stringify(limits));
  // Nothing but the stub is on the path.
  const env = { PATH: path.join(directory, "bin") };
  return spawnSync(process.execPath, [path.join(directory, "kernel-resources.mjs")], { encoding: "utf8", env });
}

async function installNvcc(): Promise<void> {
  const nvcc = path.join(directory, "bin/nvcc");
  await writeFile(
    nvcc,
    `#!/bin/sh\n[ "$1" = --version ] && { echo 13.0; exit; }\necho ran >> "$0.log"\necho "${log}"\n`,
  );
  await chmod(nvcc, 0o755);
}

test("a spill above its limit fails and is named, at its limit it passes", async () => {
  await installNvcc();
  const failed = await check({ sm_90a: { "some.cu other": 100 } });
  expect(failed).toMatchObject({
    status: 1,
    stderr: "1 kernels spill more registers than kernel-limits.json allows\n",
  });
  expect(failed.stdout).toMatch(/^ +255 +44 +24 +512 {2}some\.cu {2}_Z1kv {2}SPILLS MORE THAN 0 BYTES$/m);
  const passed = await check({ sm_90a: { "some.cu _Z1kv": 44 } });
  expect(passed).toMatchObject({ status: 0, stdout: expect.stringContaining("no kernel spills more") });
  expect((await check({ sm_90a: { "some.cu _Z1kv": 43 } })).status).toBe(1);
});

test("without nvcc it says that it was skipped", async () => {
  const skipped = { status: 0, stdout: "kernel resources: skipped, there is no nvcc\n", stderr: "" };
  expect(await check({ sm_90a: {} })).toMatchObject(skipped);
});
