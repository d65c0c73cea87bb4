// Chat and completion on the real engine: the text of a greedy completion, its exact end at a stop text, and seeds.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LocalChatModel, loadPolicy } from "../../packages/core/src/index.ts";

let model: LocalChatModel;
beforeAll(async () => {
  const policy = await loadPolicy({ modelDir: "models/wideseek-tiny", device: "cpu", maxTrainTokens: 1 });
  model = new LocalChatModel({ policy, name: "tiny" });
});
afterAll(() => model[Symbol.asyncDispose]());

describe("a model of our own engine", () => {
  it("ends exactly after the first stop text, wherever it falls", async () => {
    const whole = await model.complete("The region", { maxTokens: 80 });
    expect(whole.text.length).toBeGreaterThan(20);
    for (let start = 3; start < 20; start += 4) {
      const stop = whole.text.slice(start, start + 3);
      const { text, finishReason } = await model.complete("The region", { maxTokens: 80, stop: [stop, "never said"] });
      expect(text).toBe(whole.text.slice(0, whole.text.indexOf(stop) + stop.length));
      expect(finishReason).toBe("stop");
    }
  });

  it("draws the same text for the same seed, also among others", async () => {
    const ask = (seed: bigint): Promise<{ text: string }> =>
      model.chat({ messages: [{ role: "user", content: "List the towns." }], temperature: 1, seed, maxTokens: 40 });
    const [first, ...others] = await Promise.all([ask(7n), ask(8n), ask(9n), ask(7n)]);
    expect(others.at(-1)?.text).toBe(first?.text);
    expect(new Set([first, ...others].map((reply) => reply?.text)).size).toBeGreaterThan(1);
  });

  it("refuses a prompt that is longer than its context", async () => {
    await expect(model.complete("a b ".repeat(4000), {})).rejects.toMatchObject({
      code: "WS_INVALID_ARGUMENT",
      details: { reason: "context", maxContextTokens: 2048 },
    });
  });
});
