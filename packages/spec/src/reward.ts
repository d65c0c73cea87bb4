// What an episode earned, by name, and who judges meaning.

/** Precision, recall, F1 of items and rows and whole-table success (WideSearch benchmark). */
export interface TableScore {
  itemPrecision: number;
  itemRecall: number;
  itemF1: number;
  rowPrecision: number;
  rowRecall: number;
  rowF1: number;
  /** 1 when the tables are equal, else 0. */
  success: number;
}

/** Reward of an episode. `total` is what is trained on. */
export interface RewardBreakdown {
  /** False: the judge could not answer; the episode is left out of its group, never scored 0. */
  judged: boolean;
  /** Table: item F1. QA: 1 when right. */
  score: number;
  table?: TableScore | undefined;
  /** By rule, so also of an answer that was not judged. */
  qa?: { exactMatch: number; tokenF1: number } | undefined;
  formatReward: number;
  toolReward: number;
  lengthPenalty: number;
  total: number;
  /** One line: why a term is what it is, e.g. "no table in the answer". */
  reason: string;
}

/** Decides whether texts mean the same. The rule judge needs no model; an LLM judge has the same interface. */
export interface Judge {
  readonly name: string;
  /**
   * Maps predicted strings to reference strings of the same meaning. Several spellings may map to one reference (a key
   * column names "UK" in many rows); the scorer makes columns and rows one-to-one.
   */
  align(predicted: readonly string[], reference: readonly string[], signal?: AbortSignal): Promise<Map<string, string>>;
  /** 0 or 1 for each pair. */
  gradePairs(
    pairs: readonly { response: string; target: string }[],
    criterion: string,
    signal?: AbortSignal,
  ): Promise<number[]>;
  /** 1 when `response` answers the question like one of `answers`. */
  gradeAnswer(question: string, answers: readonly string[], response: string, signal?: AbortSignal): Promise<number>;
}
