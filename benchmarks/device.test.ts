import { expect, test } from "vitest";
import { bench30m, qwen3Large } from "./bench-model.ts";
import { dtypeOf, figureName } from "./device.ts";

test("figures of the CPU keep their names, those of a GPU name the model", () => {
  const cpu = { device: { kind: "cpu", description: "x" }, shape: bench30m } as const;
  expect([figureName(cpu, "decode", 8), figureName(cpu, "train_step")]).toEqual(["cpu.decode8", "cpu.train_step"]);
  const gpu = { device: { kind: "cuda", description: "x" }, shape: qwen3Large } as const;
  expect(figureName(gpu, "decode", 64)).toBe("gpu.decode.4b.b64");
  expect(figureName(gpu, "prefill", 2048)).toBe("gpu.prefill.4b.2048");
  expect(figureName(gpu, "grpo_step")).toBe("gpu.grpo_step.4b");
  expect([dtypeOf(cpu.device), dtypeOf(gpu.device)]).toEqual(["fp32", "bf16"]);
});
