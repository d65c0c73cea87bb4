import { describe, expect, test } from "vitest";
import { ScriptedPolicy } from "./scripted-policy.ts";
import { chat } from "./testing/team.ts";

const request = {
  seed: 1n,
  maxNewTokens: 100,
  sampling: { temperature: 1, topP: 1, topK: 0, minP: 0 },
  stopTokenIds: [],
};

describe("ScriptedPolicy", () => {
  test("replies to the decoded prompt with a whole turn", async () => {
    const promptIds = await chat.encodePrompt([{ role: "user", content: "héllo" }]);
    await using policy = new ScriptedPolicy({
      chat,
      version: 3n,
      reply: ({ text }) => `<think>${text.length}</think>ok`,
    });
    const streamed: number[] = [];
    const completion = await policy.generate({ ...request, promptIds, onToken: (tokenId) => streamed.push(tokenId) });
    const text = await chat.decode(promptIds);
    expect(await chat.decode(completion.tokenIds)).toBe(`<think>${text.length}</think>ok<|im_end|>`);
    expect(completion).toMatchObject({ finishReason: "stop", policyVersion: 3n });
    expect(completion.logprobs).toEqual(new Float32Array(completion.tokenIds.length));
    expect(streamed).toEqual(Array.from(completion.tokenIds));
    expect(policy.vocabSize).toBe(chat.vocabSize);
  });

  test("keeps the limits of a real policy", async () => {
    const promptIds = new Int32Array(10).fill(65);
    const policy = new ScriptedPolicy({ chat, reply: () => "long", maxContextTokens: 20 });
    expect(await policy.generate({ ...request, promptIds, maxNewTokens: 4 })).toMatchObject({ finishReason: "length" });
    expect(await policy.generate({ ...request, promptIds, maxNewTokens: 5 })).toMatchObject({ finishReason: "stop" });
    for (const maxNewTokens of [0, 11]) {
      await expect(policy.generate({ ...request, promptIds, maxNewTokens })).rejects.toMatchObject({
        code: "WS_INVALID_ARGUMENT",
      });
    }
    await policy.close();
    await expect(policy.generate({ ...request, promptIds, maxNewTokens: 5 })).rejects.toMatchObject({
      code: "WS_CLOSED",
    });
  });

  test("abort rejects although the reply never comes", async () => {
    const controller = new AbortController();
    const policy = new ScriptedPolicy({ chat, reply: () => new Promise(() => {}) });
    const pending = policy.generate({ ...request, promptIds: Int32Array.of(65), signal: controller.signal });
    controller.abort(new Error("stop"));
    await expect(pending).rejects.toThrow("stop");
  });
});
