// Learning rate as a function of the step. Owns no optimizer.

export interface ScheduleSettings {
  learningRate: number;
  schedule: "constant" | "linear" | "cosine";
  /** Steps of linear rise from 0 to `learningRate`. */
  warmupSteps: number;
  /** The decaying schedules would reach `minLearningRate` one step after this one, so that the last step still counts. */
  totalSteps: number;
  minLearningRate: number;
}

/** Learning rate of the `step`-th optimizer step, counted from 1. */
export function learningRateAt(step: number, settings: ScheduleSettings): number {
  const { learningRate, schedule, warmupSteps, totalSteps, minLearningRate } = settings;
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  if (schedule === "constant") return learningRate;
  const progress = Math.min(1, (step - 1 - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
  const remaining = schedule === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return minLearningRate + (learningRate - minLearningRate) * remaining;
}
