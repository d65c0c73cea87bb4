// The judge that asks a language model: do texts mean the same, does an answer answer. Owns batches and retries of replies
// that cannot be read; words and forms are in llm-judge-prompts.ts and llm-judge-reply.ts.
import { type ChatModel, type ChatRequest, invalidInput, type Judge, WideSeekError } from "@wideseek/spec";
import { type LlmJudgeOptions, type LlmJudgeOptionsInput, llmJudgeOptionsSchema } from "./llm-judge-options.ts";
import { alignPrompt, answerPrompt, correction, gradePrompt, judgeMessages } from "./llm-judge-prompts.ts";
import { jsonSchemas, type Reading, readGrades, readMatches, readVerdict } from "./llm-judge-reply.ts";

interface Pair {
  response: string;
  target: string;
}

/** One request: what is asked, in which form the reply must be, and how it is read. */
interface Question<T> {
  instructions: string;
  data: unknown;
  jsonSchema: ChatRequest["jsonSchema"];
  read(text: string): Reading<T>;
}

/**
 * Equal texts are right without being asked about. Rejects when the model gives no reply or none that can be read:
 * "could not judge" is never a grade.
 */
export class LlmJudge implements Judge {
  readonly name: string;
  /** Questions put to the model, and those that a readable reply answered. */
  readonly counts: { numAsked: number; numAnswered: number } = { numAsked: 0, numAnswered: 0 };
  readonly #model: ChatModel;
  readonly #options: LlmJudgeOptions;

  /** The model stays the caller's to close. @throws WS_INVALID_ARGUMENT for impossible options */
  constructor({ model, options = {} }: { model: ChatModel; options?: LlmJudgeOptionsInput }) {
    const parsed = llmJudgeOptionsSchema.safeParse(options);
    if (!parsed.success) throw invalidInput("judge", parsed.error, options);
    this.name = `llm ${model.name}`;
    this.#model = model;
    this.#options = parsed.data;
  }

  async align(
    predicted: readonly string[],
    reference: readonly string[],
    signal?: AbortSignal,
  ): Promise<Map<string, string>> {
    const references = [...new Set(reference)];
    const known = new Set(references);
    const map = new Map<string, string>();
    const asked: string[] = [];
    for (const text of new Set(predicted)) {
      if (known.has(text)) map.set(text, text);
      else asked.push(text);
    }
    if (asked.length === 0 || references.length === 0) return map;
    // Every name must be seen beside every reference, so half of the room is for each of the two lists.
    const half = this.#options.maxCharacters / 2;
    const size = (text: string): number => this.#cut(text).length;
    const jobs = this.#batches(references, size, half, Number.POSITIVE_INFINITY).flatMap((some) =>
      this.#batches(asked, size, half).map((names) => ({ names, some })),
    );
    const matches = await allOrFirstError(jobs.map(({ names, some }) => this.#align(names, some, signal)));
    for (const [index, { names }] of jobs.entries()) {
      for (const [position, name] of names.entries()) {
        const match = matches[index]?.[position];
        if (match != null && !map.has(name)) map.set(name, match);
      }
    }
    return map;
  }

  async gradePairs(pairs: readonly Pair[], criterion: string, signal?: AbortSignal): Promise<number[]> {
    const key = ({ response, target }: Pair): string => JSON.stringify([response, target]);
    const grades = new Map<string, number>();
    const asked = new Map<string, Pair>();
    for (const pair of pairs) {
      if (pair.response === pair.target) grades.set(key(pair), 1);
      else asked.set(key(pair), pair);
    }
    const size = ({ response, target }: Pair): number => this.#cut(response).length + this.#cut(target).length;
    const batches = this.#batches([...asked], ([, pair]) => size(pair), this.#options.maxCharacters);
    const graded = await allOrFirstError(
      batches.map((batch) =>
        this.#grade(
          batch.map(([, pair]) => pair),
          criterion,
          signal,
        ),
      ),
    );
    for (const [index, batch] of batches.entries()) {
      for (const [position, [pairKey]] of batch.entries()) grades.set(pairKey, graded[index]?.[position] as number);
    }
    return pairs.map((pair) => grades.get(key(pair)) as number);
  }

  async gradeAnswer(
    question: string,
    answers: readonly string[],
    response: string,
    signal?: AbortSignal,
  ): Promise<number> {
    if (answers.includes(response)) return 1;
    const cut = (text: string): string => this.#cut(text);
    const data = { question: cut(question), answers: answers.map(cut), response: cut(response) };
    const asked = { instructions: answerPrompt, data, jsonSchema: jsonSchemas.answer, read: readVerdict };
    return await this.#ask(asked, signal);
  }

  async #align(
    names: readonly string[],
    references: readonly string[],
    signal: AbortSignal | undefined,
  ): Promise<(string | null)[]> {
    const ids = names.map((_, index) => `p${index + 1}`);
    const byId = new Map(references.map((text, index) => [`r${index + 1}`, text]));
    const entry = (id: string, text: string): object => ({ id, text: this.#cut(text) });
    const data = {
      reference: [...byId].map(([id, text]) => entry(id, text)),
      predicted: names.map((text, index) => entry(ids[index] as string, text)),
    };
    return await this.#askInParts(
      names,
      {
        instructions: alignPrompt,
        data,
        jsonSchema: jsonSchemas.matches,
        read: (text) => readMatches(text, ids, byId),
      },
      async (part) => await this.#align(part, references, signal),
      signal,
    );
  }

  async #grade(pairs: readonly Pair[], criterion: string, signal: AbortSignal | undefined): Promise<number[]> {
    const ids = pairs.map((_, index) => `p${index + 1}`);
    const items = pairs.map(({ response, target }, index) => ({
      id: ids[index],
      response: this.#cut(response),
      target: this.#cut(target),
    }));
    return await this.#askInParts(
      pairs,
      {
        instructions: gradePrompt,
        data: { criterion: this.#cut(criterion), items },
        jsonSchema: jsonSchemas.grades,
        read: (text) => readGrades(text, ids),
      },
      async (part) => await this.#grade(part, criterion, signal),
      signal,
    );
  }

  /** Asks about all items at once, or about the halves where the model's context or reply is too short for all. */
  async #askInParts<Item, T>(
    items: readonly Item[],
    question: Question<T[]>,
    askPart: (part: readonly Item[]) => Promise<T[]>,
    signal: AbortSignal | undefined,
  ): Promise<T[]> {
    try {
      return await this.#ask(question, signal);
    } catch (error) {
      if (items.length < 2 || !(error instanceof WideSeekError) || error.details.reason !== "context") throw error;
      const middle = items.length >> 1;
      const halves = [items.slice(0, middle), items.slice(middle)];
      return (await allOrFirstError(halves.map(askPart))).flat();
    }
  }

  /** @throws WS_IO when no reply could be read; with `details.reason` "context" when it was too long */
  async #ask<T>(question: Question<T>, signal: AbortSignal | undefined): Promise<T> {
    const { maxReadings } = this.#options;
    const { instructions, data, jsonSchema, read } = question;
    let messages = judgeMessages(instructions, data);
    this.counts.numAsked += 1;
    for (let reading = 1; ; reading += 1) {
      const isUsable = ({ text }: { text: string }): boolean => "value" in read(text);
      const reply = await this.#model.chat({ messages, jsonSchema, signal, isUsable });
      const result = read(reply.text);
      if ("value" in result) {
        this.counts.numAnswered += 1;
        return result.value;
      }
      if (reply.finishReason === "length") {
        throw new WideSeekError("WS_IO", `${this.name}: the reply was cut at the limit of tokens`, {
          op: "judge",
          details: { reason: "context" },
        });
      }
      if (reading >= maxReadings) {
        throw new WideSeekError("WS_IO", `${this.name}: ${maxReadings} replies could not be read: ${result.problem}`, {
          op: "judge",
        });
      }
      messages = [...messages, ...correction(reply.text, result.problem)];
    }
  }

  #batches<T>(
    items: readonly T[],
    size: (item: T) => number,
    maxCharacters: number,
    maxItems: number = this.#options.maxItems,
  ): T[][] {
    const batches: T[][] = [];
    let room = 0;
    for (const item of items) {
      const characters = size(item);
      const last = batches.at(-1);
      if (last === undefined || last.length >= maxItems || characters > room) {
        batches.push([item]);
        room = maxCharacters - characters;
      } else {
        last.push(item);
        room -= characters;
      }
    }
    return batches;
  }

  #cut(text: string): string {
    const { textCharacters } = this.#options;
    return text.length <= textCharacters ? text : `${text.slice(0, textCharacters)} [...]`;
  }
}

/** Waits for all, so that no request outlives its caller; then the first error, if there is one. */
async function allOrFirstError<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(work);
  return outcomes.map((outcome) => {
    if (outcome.status === "rejected") throw outcome.reason;
    return outcome.value;
  });
}
