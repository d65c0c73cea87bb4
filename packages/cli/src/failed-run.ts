// A command that came to its end, and printed what there is, without what it was for: exit code 1.

export class FailedRun extends Error {}

export function judgeFailure(directory: string): string {
  return `the judge gave no judgement at all, see "What failed" in the report; when it works, eval --resume ${directory} judges the answers that were kept`;
}
