import { expect, it } from "vitest";
import { modelName } from "./held-out.ts";

it.each([
  ["models/wideseek-tiny", "wideseek-tiny"],
  ["runs/train-20260131-120000/model", "train-20260131-120000"],
  ["runs/a/model/", "a"],
  ["/model", "model"],
])("results of %s are named %s", (directory, name) => {
  expect(modelName(directory)).toBe(name);
});
