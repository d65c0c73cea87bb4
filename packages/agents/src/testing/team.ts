// For tests: scripted teams over the byte vocabulary, with a tool that answers at once.
import {
  type Completion,
  type Episode,
  type GenerateRequest,
  type Policy,
  type QaTask,
  type Toolset,
  trajectoryTokenIds,
} from "@wideseek/spec";
import type { ChatTokenizer } from "@wideseek/text";
import { type EpisodeRequest, runEpisode } from "../episode.ts";
import { type ScriptedContext, ScriptedPolicy } from "../scripted-policy.ts";
import { byteChat } from "./byte-chat.ts";

export const chat: ChatTokenizer = await byteChat();

export const task: QaTask = { kind: "qa", instanceId: "q", question: "Who?", language: "en", answers: ["me"] };
export const call = (name: string, args: unknown): string =>
  `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>`;
export const delegate = (...prompts: string[]): string =>
  call("create_sub_agents", { sub_agents: prompts.map((prompt) => ({ prompt })) });

export const tools: Toolset = {
  definitions: () => [{ type: "function", function: { name: "search", description: "", parameters: {} } }],
  run: async ({ arguments: args }) => ({
    text: `found ${JSON.stringify(args)}`,
    ok: true,
    numSearches: 1,
    numAccesses: 0,
  }),
};

export type Reply = (
  context: ScriptedContext & { role: "lead" | "other"; request: string; turn: number },
) => string | Promise<string>;

/** Reads a compact conversation: who is asked, for what, and which turn it is (from 1). */
export function scripted(reply: Reply): ScriptedPolicy {
  return new ScriptedPolicy({
    chat,
    version: 7n,
    reply: (context) =>
      reply({
        ...context,
        role: context.text.includes("create_sub_agents") ? "lead" : "other",
        request: /<\|im_start\|>user\n([\s\S]*?)<\|im_end\|>/.exec(context.text)?.[1] ?? "",
        turn: context.text.split("<|im_start|>assistant\n").length - 1,
      }),
  });
}

export function episode(policy: Policy, overrides: Partial<EpisodeRequest> = {}): Promise<Episode> {
  return runEpisode({ policy, chat, tools, task, seed: 3n, prompts: "compact", ...overrides });
}

export const textOf = (result: Episode, index = 0): Promise<string> => {
  const trajectory = result.trajectories[index];
  if (trajectory === undefined) throw new Error(`no trajectory ${index}`);
  return chat.decode(trajectoryTokenIds(trajectory));
};

/** A policy that records its requests and completions. */
export function recorded(policy: Policy): {
  policy: Policy;
  log: { request: GenerateRequest; completion: Completion }[];
} {
  const log: { request: GenerateRequest; completion: Completion }[] = [];
  const generate = async (request: GenerateRequest): Promise<Completion> => {
    const completion = await policy.generate(request);
    log.push({ request: { ...request, promptIds: request.promptIds.slice() }, completion });
    return completion;
  };
  return {
    log,
    policy: {
      maxContextTokens: 32_768,
      vocabSize: 265,
      version: 0n,
      generate,
      close: async () => {},
      [Symbol.asyncDispose]: async () => {},
    },
  };
}
