// How far two judges agree: the same questions to both, counted by kind. Owns counts and Cohen's kappa, no scoring.
import { errorMessage, type Judge } from "@wideseek/spec";

/** Names of rows and columns, cells of a column, answers to questions. */
export const decisionKinds = ["name", "cell", "answer"] as const;
export type DecisionKind = (typeof decisionKinds)[number];

export interface Disagreement {
  kind: DecisionKind;
  /** What was given and what is right. */
  response: string;
  target: string;
  /** The column's criterion or the question; "" for names. */
  context: string;
  /** True: right by the first judge and wrong by the second. */
  firstSaysRight: boolean;
}

export interface KindAgreement {
  /** Decisions of both judges; equal texts, which need no judge, are not among them. */
  numDecisions: number;
  bothRight: number;
  bothWrong: number;
  onlyFirstRight: number;
  onlySecondRight: number;
  /** Of `onlyFirstRight`: names for which both found a counterpart, but not the same. */
  otherMatches: number;
  /** Decisions that the second judge did not make. */
  unjudged: number;
  /** Share of equal decisions; null without decisions. */
  agreement: number | null;
  /** Agreement beyond chance (Cohen 1960); null where a judge always says the same. */
  kappa: number | null;
}

type Counts = Omit<KindAgreement, "numDecisions" | "agreement" | "kappa">;

export interface AgreementOptions {
  first: Judge;
  second: Judge;
  /** Disagreements that are kept of each kind. Default 20. */
  maxExamples?: number;
}

/**
 * Answers as the first judge, so that scoring asks what it asks under that judge, and puts every question to the second
 * one too. A question that the second cannot answer is counted and costs the first one's answer nothing.
 */
export class AgreementJudge implements Judge {
  readonly name: string;
  readonly #first: Judge;
  readonly #second: Judge;
  readonly #maxExamples: number;
  readonly #counts: Record<DecisionKind, Counts> = { name: noCounts(), cell: noCounts(), answer: noCounts() };
  readonly #examples: Record<DecisionKind, Map<string, Disagreement>> = {
    name: new Map(),
    cell: new Map(),
    answer: new Map(),
  };
  /** Why the second judge did not answer, the first reasons. */
  readonly errors: string[] = [];

  constructor({ first, second, maxExamples = 20 }: AgreementOptions) {
    this.name = `${first.name} beside ${second.name}`;
    this.#first = first;
    this.#second = second;
    this.#maxExamples = maxExamples;
  }

  async align(
    predicted: readonly string[],
    reference: readonly string[],
    signal?: AbortSignal,
  ): Promise<Map<string, string>> {
    const references = new Set(reference);
    const open = [...new Set(predicted)].filter((text) => !references.has(text));
    const [ours, theirs] = await Promise.all([
      this.#first.align(predicted, reference, signal),
      this.#try("name", open.length, signal, () => this.#second.align(predicted, reference, signal)),
    ]);
    if (theirs === undefined) return ours;
    for (const response of open) {
      const [mine, other] = [ours.get(response), theirs.get(response)];
      if (mine !== undefined && other !== undefined && mine !== other) this.#counts.name.otherMatches += 1;
      // The question to the second judge is whether the first one's counterpart is the right one.
      const sameAsFirst = mine === undefined ? other !== undefined : other === mine;
      const target = mine ?? other ?? "";
      this.#count({ kind: "name", response, target, context: "" }, mine !== undefined, sameAsFirst);
    }
    return ours;
  }

  async gradePairs(
    pairs: readonly { response: string; target: string }[],
    criterion: string,
    signal?: AbortSignal,
  ): Promise<number[]> {
    const open = pairs.filter(({ response, target }) => response !== target);
    const [ours, theirs] = await Promise.all([
      this.#first.gradePairs(pairs, criterion, signal),
      this.#try("cell", open.length, signal, () => this.#second.gradePairs(pairs, criterion, signal)),
    ]);
    if (theirs === undefined) return ours;
    for (const [index, { response, target }] of pairs.entries()) {
      if (response === target) continue;
      const right = (grades: readonly number[]): boolean => (grades[index] ?? 0) >= 0.5;
      this.#count({ kind: "cell", response, target, context: criterion }, right(ours), right(theirs));
    }
    return ours;
  }

  async gradeAnswer(
    question: string,
    answers: readonly string[],
    response: string,
    signal?: AbortSignal,
  ): Promise<number> {
    const first = this.#first.gradeAnswer(question, answers, response, signal);
    if (answers.includes(response)) return await first;
    const [ours, theirs] = await Promise.all([
      first,
      this.#try("answer", 1, signal, () => this.#second.gradeAnswer(question, answers, response, signal)),
    ]);
    if (theirs === undefined) return ours;
    const asked = { kind: "answer", response, target: answers.join(" | "), context: question } as const;
    this.#count(asked, ours >= 0.5, theirs >= 0.5);
    return ours;
  }

  result(): Record<DecisionKind, KindAgreement> {
    const of = (kind: DecisionKind): KindAgreement => withMeasures(this.#counts[kind]);
    return { name: of("name"), cell: of("cell"), answer: of("answer") };
  }

  /** Different disagreements, the first ones of each kind. */
  examples(): Disagreement[] {
    return decisionKinds.flatMap((kind) => [...this.#examples[kind].values()]);
  }

  async #try<T>(
    kind: DecisionKind,
    numOpen: number,
    signal: AbortSignal | undefined,
    ask: () => Promise<T>,
  ): Promise<T | undefined> {
    if (numOpen === 0) return undefined;
    try {
      return await ask();
    } catch (error) {
      signal?.throwIfAborted();
      this.#counts[kind].unjudged += numOpen;
      if (this.errors.length < this.#maxExamples) this.errors.push(errorMessage(error));
      return undefined;
    }
  }

  #count(asked: Omit<Disagreement, "firstSaysRight">, first: boolean, second: boolean): void {
    const counts = this.#counts[asked.kind];
    if (first && second) counts.bothRight += 1;
    else if (!first && !second) counts.bothWrong += 1;
    else {
      if (first) counts.onlyFirstRight += 1;
      else counts.onlySecondRight += 1;
      const examples = this.#examples[asked.kind];
      if (examples.size < this.#maxExamples) {
        examples.set(JSON.stringify([asked.response, asked.target]), { ...asked, firstSaysRight: first });
      }
    }
  }
}

function noCounts(): Counts {
  return { bothRight: 0, bothWrong: 0, onlyFirstRight: 0, onlySecondRight: 0, otherMatches: 0, unjudged: 0 };
}

function withMeasures(counts: Counts): KindAgreement {
  const { bothRight, bothWrong, onlyFirstRight, onlySecondRight } = counts;
  const numDecisions = bothRight + bothWrong + onlyFirstRight + onlySecondRight;
  if (numDecisions === 0) return { ...counts, numDecisions, agreement: null, kappa: null };
  const agreement = (bothRight + bothWrong) / numDecisions;
  const first = (bothRight + onlyFirstRight) / numDecisions;
  const second = (bothRight + onlySecondRight) / numDecisions;
  const byChance = first * second + (1 - first) * (1 - second);
  const constant = [first, second].some((share) => share === 0 || share === 1);
  const kappa = constant ? null : (agreement - byChance) / (1 - byChance);
  return { ...counts, numDecisions, agreement, kappa };
}
