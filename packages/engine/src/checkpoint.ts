// Moves weights and optimizer state between the engine and files. Knows formats, not how the engine works.
import { access, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, WideSeekError } from "@wideseek/spec";
import { z } from "zod";
import { writeDirectory } from "./atomic-directory.ts";
import type { FloatDtype, NativeEngine, ParameterInfo, TensorKind } from "./binding.ts";
import { fromNative } from "./native-error.ts";
import {
  openModelWeights,
  openSafetensors,
  type TensorReader,
  type TensorSource,
  writeSafetensors,
} from "./safetensors.ts";

const FLOAT_DTYPES: Readonly<Record<string, FloatDtype>> = { F32: "float32", BF16: "bfloat16", F16: "float16" };

/** Files of a training checkpoint, beside config.json and model.safetensors (float32). */
const OPTIMIZER_FILE = "optimizer.safetensors";
const STATE_FILE = "trainer.json";
/** Written last: a directory without it is not a checkpoint. */
const DONE_FILE = "DONE";

const MOMENTS = [
  { kind: "firstMoment", prefix: "first_moment." },
  { kind: "secondMoment", prefix: "second_moment." },
] as const satisfies readonly { kind: TensorKind; prefix: string }[];

const stateSchema = z.strictObject({
  format: z.literal(1),
  numSteps: z.int().min(0),
  policyVersion: z.string().regex(/^\d{1,20}$/),
});

/** Loads float32, bfloat16 or float16 weights. @throws WS_IO, WS_CORRUPT_FILE, WS_UNSUPPORTED */
export async function loadWeights(
  engine: NativeEngine,
  parameters: readonly ParameterInfo[],
  tiedEmbeddings: boolean,
  directory: string,
): Promise<void> {
  await using reader = await openModelWeights(directory);
  // Published tied checkpoints may carry a copy of the embedding as lm_head; older ones rotary tables.
  const ignorable = (name: string): boolean =>
    (tiedEmbeddings && name === "lm_head.weight") || name.endsWith(".rotary_emb.inv_freq");
  const known = new Set(parameters.map((parameter) => parameter.name));
  for (const name of reader.tensors.keys()) {
    if (!known.has(name) && !ignorable(name)) {
      throw new WideSeekError(
        "WS_UNSUPPORTED",
        `${directory}: tensor ${JSON.stringify(name)} has no place in this model`,
        {
          op: "loadWeights",
          details: { path: directory, tensor: name },
        },
      );
    }
  }
  const dtypes = parameters.map(({ name, shape }) => checkTensor(reader, directory, name, shape));
  for (const [index, { name }] of parameters.entries()) {
    await engine.writeParameter(index, await reader.read(name), dtypes[index] as FloatDtype);
  }
}

function checkTensor(reader: TensorReader, where: string, name: string, shape: readonly number[]): FloatDtype {
  const fail = (what: string): WideSeekError =>
    new WideSeekError("WS_CORRUPT_FILE", `${where}: tensor ${JSON.stringify(name)}: ${what}`, {
      op: "loadWeights",
      details: { path: where, tensor: name },
    });
  const info = reader.tensors.get(name);
  if (!info) throw fail("is missing");
  if (info.shape.join() !== shape.join()) {
    throw fail(`has shape [${info.shape.join(", ")}], config.json asks for [${shape.join(", ")}]`);
  }
  const dtype = FLOAT_DTYPES[info.dtype];
  if (!dtype) throw fail(`has dtype ${info.dtype}; weights are F32, BF16 or F16`);
  return dtype;
}

/** Writes a Hugging Face folder: config.json as it was read, model.safetensors in `dtype`. Atomic. */
export async function saveWeights(
  engine: NativeEngine,
  parameters: readonly ParameterInfo[],
  config: Readonly<Record<string, unknown>>,
  dtype: "float32" | "bfloat16",
  directory: string,
): Promise<void> {
  const tensors = parameters.map(
    ({ name, shape }, index): TensorSource => ({
      name,
      dtype: dtype === "float32" ? "F32" : "BF16",
      shape,
      read: () => fromNative(async () => await engine.readParameter(index, dtype)),
    }),
  );
  await writeDirectory(directory, async (temporary) => {
    await writeConfig(temporary, config);
    await writeSafetensors(join(temporary, "model.safetensors"), tensors, { format: "pt" });
  });
}

/** Writes weights, moments, step and version; the folder is also a Hugging Face folder. Atomic. */
export async function saveCheckpoint(
  engine: NativeEngine,
  parameters: readonly ParameterInfo[],
  config: Readonly<Record<string, unknown>>,
  directory: string,
): Promise<void> {
  const source = (kind: TensorKind, prefix: string): TensorSource[] =>
    parameters.map(({ name, shape }, index) => ({
      name: `${prefix}${name}`,
      dtype: "F32",
      shape,
      read: () => fromNative(async () => bytesOf(await engine.readTensor(kind, index))),
    }));
  const { numSteps, policyVersion } = await engine.trainingState();
  await writeDirectory(directory, async (temporary) => {
    await writeConfig(temporary, config);
    await writeSafetensors(join(temporary, "model.safetensors"), source("weight", ""), { format: "pt" });
    await writeSafetensors(
      join(temporary, OPTIMIZER_FILE),
      MOMENTS.flatMap(({ kind, prefix }) => source(kind, prefix)),
    );
    const state: z.output<typeof stateSchema> = { format: 1, numSteps, policyVersion: policyVersion.toString() };
    await writeFile(join(temporary, STATE_FILE), `${JSON.stringify(state)}\n`);
    await writeFile(join(temporary, DONE_FILE), "");
  });
}

/** A checkpoint whose files have been checked; `apply` cannot fail for what is in them. */
export interface OpenCheckpoint extends AsyncDisposable {
  policyVersion: bigint;
  apply(): Promise<void>;
}

/** @throws WS_IO, WS_CORRUPT_FILE; an unfinished checkpoint is refused */
export async function openCheckpoint(
  engine: NativeEngine,
  parameters: readonly ParameterInfo[],
  directory: string,
): Promise<OpenCheckpoint> {
  await access(join(directory, DONE_FILE)).catch((error: unknown) => {
    throw new WideSeekError("WS_IO", `${directory}: not a finished checkpoint (no ${DONE_FILE} marker)`, {
      op: "loadCheckpoint",
      details: { path: directory },
      cause: error,
    });
  });
  const state = await readState(join(directory, STATE_FILE));
  const policyVersion = BigInt(state.policyVersion);
  const weights = await openSafetensors(join(directory, "model.safetensors"));
  try {
    const optimizer = await openSafetensors(join(directory, OPTIMIZER_FILE));
    const close = async (): Promise<void> => {
      await Promise.all([weights.close(), optimizer.close()]);
    };
    const files: { kind: TensorKind; prefix: string; reader: TensorReader }[] = [
      { kind: "weight", prefix: "", reader: weights },
      ...MOMENTS.map((moment) => ({ ...moment, reader: optimizer })),
    ];
    try {
      for (const { prefix, reader } of files) {
        for (const { name, shape } of parameters) {
          if (checkTensor(reader, directory, `${prefix}${name}`, shape) !== "float32") {
            throw new WideSeekError("WS_CORRUPT_FILE", `${directory}: tensor "${prefix}${name}" is not F32`);
          }
        }
      }
    } catch (error) {
      await close();
      throw error;
    }
    const apply = async (): Promise<void> => {
      for (const { kind, prefix, reader } of files) {
        for (const [index, { name }] of parameters.entries()) {
          await engine.writeTensor(kind, index, floatsOf(await reader.read(`${prefix}${name}`)));
        }
      }
      await engine.zeroGradients();
      await engine.setTrainingState(state.numSteps, policyVersion);
    };
    return { policyVersion, apply, [Symbol.asyncDispose]: close };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

async function readState(path: string): Promise<z.output<typeof stateSchema>> {
  try {
    return stateSchema.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (error) {
    throw new WideSeekError("WS_CORRUPT_FILE", `${path}: ${errorMessage(error).split("\n", 1)[0]}`, {
      op: "loadCheckpoint",
      details: { path },
      cause: error,
    });
  }
}

async function writeConfig(directory: string, config: Readonly<Record<string, unknown>>): Promise<void> {
  await writeFile(join(directory, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
