// The last lines of a training that reached its end. Owns no numbers.

export function trainingSummary(steps: number, directory: string): string {
  const unit = steps === 1 ? "step" : "steps";
  return `trained ${steps} ${unit}; model: ${directory}/model\nreport: ${directory}/report.html`;
}
