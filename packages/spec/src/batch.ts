// What crosses into the training kernels: packed variable-length sequences and per-token data.

/**
 * Sequences packed without padding. T = tokens of all sequences, B = sequences.
 * Per-token arrays are aligned to the token that is predicted: entry t belongs to `tokenIds[t]`, whose
 * log-probability comes from the position before it; the entry of a sequence's first token must have weight 0.
 */
export interface PackedBatch {
  /** int32 [T] */
  tokenIds: Int32Array;
  /** int32 [B+1], first 0, last T, strictly increasing. */
  cuSeqlens: Int32Array;
  /** float32 [T]; 0 = not trained. Sums of losses are taken with these weights, never means. */
  lossWeights: Float32Array;
  /** float32 [T]; one value per episode, repeated on its tokens. Unused by "nll". */
  advantages: Float32Array;
  /** float32 [T]; log-probabilities recorded while sampling (nats). Unused by "nll". */
  behaviorLogprobs: Float32Array;
  /** float32 [T]; of the frozen reference; required when `klCoefficient` > 0. */
  refLogprobs?: Float32Array | undefined;
}

export type LossSettings =
  /** Supervised: sum_t w_t * -ln p_t. */
  | { kind: "nll" }
  /** Clipped multi-agent GRPO (WideSeek-R1, training objective) with dual clip and k3 KL. */
  | {
      kind: "grpo";
      temperature: number;
      /** epsilon_low: ratios below 1 - clipLow are clipped. */
      clipLow: number;
      /** epsilon_high */
      clipHigh: number;
      /** Bound c of the dual clip for negative advantages; `Infinity` = off. */
      dualClip: number;
      /** Weight of the k3 estimate of KL(policy || reference); 0 = off. */
      klCoefficient: number;
    };

/** Sums over the tokens with a weight other than 0; divide by `numTokens` for token means. */
export interface LossStats {
  numTokens: number;
  /** sum of weighted token losses */
  loss: number;
  /** sum of weighted clipped-objective losses, without KL */
  policyLoss: number;
  sumRatio: number;
  maxRatio: number;
  minRatio: number;
  numClippedLow: number;
  numClippedHigh: number;
  numDualClipped: number;
  /** sum of behavior - policy log-probability */
  sumKlK1: number;
  /** sum of ratio - 1 - (policy - behavior) */
  sumKlK3: number;
  /** sum of the k3 estimate against the reference */
  sumRefKlK3: number;
  sumEntropy: number;
  sumNll: number;
  /** largest |policy - behavior| log-probability */
  maxAbsLogprobDiff: number;
}

export interface TokenLogprobs {
  /** float32 [T], aligned to the predicted token; 0 at each sequence's first token. */
  logprobs: Float32Array;
  /** float32 [T], entropy of the distribution that predicted the token; 0 at each first token. */
  entropies: Float32Array;
}
