// Where the models of a benchmark run, how a record names the place, and what its figures are called there.
import { execFileSync } from "node:child_process";
import { cpus } from "node:os";
import { NativePolicy } from "@wideseek/engine";
import { huggingFaceConfig, type ModelShape, toyShape } from "./bench-model.ts";

export interface BenchDevice {
  kind: "cpu" | "cuda";
  /** For the `device` of records: the processor, or the GPU with its driver. */
  description: string;
  /** Why "auto" did not take a GPU. */
  note?: string | undefined;
}

/** Starts a toy model there. @throws WideSeekError saying what is missing, if "cuda" cannot run */
export async function openDevice(wanted: "auto" | "cpu" | "cuda"): Promise<BenchDevice> {
  const processor = `${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${cpus().length} cores`;
  if (wanted === "cpu") return { kind: "cpu", description: processor };
  await using policy = await NativePolicy.create(huggingFaceConfig(toyShape), 0n, {
    device: wanted,
    maxContextTokens: 64,
    maxTrainTokens: 64,
  });
  if (policy.device === "cuda") return { kind: "cuda", description: `${describeGpu()}; host ${processor}` };
  return { kind: "cpu", description: processor, note: policy.deviceNote };
}

/** "NVIDIA H200, driver 570.86". The engine runs without nvidia-smi, so its absence is no failure. */
function describeGpu(): string {
  const query = ["--query-gpu=name,driver_version", "--format=csv,noheader"];
  for (const command of ["nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi"]) {
    try {
      const [line = ""] = execFileSync(command, query, { encoding: "utf8", stdio: "pipe" }).split("\n");
      const [name, driver] = line.split(", ");
      if (driver) return `${name}, driver ${driver}`;
    } catch {
      // not there: the next one
    }
  }
  return "GPU of unknown name (no nvidia-smi)";
}

/** "cpu.decode8" or "gpu.decode.0_6b.b8": figures of a GPU name the model, for there are several. */
export function figureName(context: { device: BenchDevice; shape: ModelShape }, word: string, size?: number): string {
  if (context.device.kind === "cpu") return `cpu.${word}${size ?? ""}`;
  const suffix = size === undefined ? "" : `.${word === "decode" ? "b" : ""}${size}`;
  return `gpu.${word}.${context.shape.name}${suffix}`;
}

/** Of weights and activations, for `params`. */
export function dtypeOf(device: BenchDevice): "fp32" | "bf16" {
  return device.kind === "cpu" ? "fp32" : "bf16";
}
