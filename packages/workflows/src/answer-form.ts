// The form in which every system hands in its answer, so that one extractor reads them all: a fenced Markdown table, or a
// box. Owns no protocol.
import type { Language, Task } from "@wideseek/spec";

const fence = "```";

const tableForms: Readonly<Record<Language, string>> = {
  en: `one Markdown table in a block that opens with ${fence}markdown and closes with ${fence}: a header with exactly the columns that the question asks for, one row for each item, every cell filled where its value was found, and no text in place of rows`,
  zh: `一个 Markdown 表格，放在以 ${fence}markdown 开头、以 ${fence} 结尾的代码块中：表头只含问题要求的列，每个条目一行，能找到的值都要填写，不得用文字代替行`,
};

/** How a table is to be written, as the end of a sentence. */
export function tableForm({ language }: Task): string {
  return tableForms[language];
}

/** A protocol's own answer as all are scored: a table in its fence, a short answer in a box. */
export function finalAnswer(task: Task, text: string): string {
  const answer = text.trim();
  if (answer === "") return "";
  if (task.kind === "table") return answer.includes(`${fence}markdown`) ? answer : withFence(answer);
  return answer.includes("\\boxed{")
    ? answer
    : `\\boxed{${isBalanced(answer) ? answer : answer.replaceAll(/[{}]/g, "")}}`;
}

/** The last run of table lines in a fence; the text unchanged when it has none. */
function withFence(text: string): string {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const isRow = (line: string | undefined): boolean => line !== undefined && line.split("|").length > 2;
  const end = lines.findLastIndex(isRow) + 1;
  let start = end;
  while (start > 0 && isRow(lines[start - 1])) start -= 1;
  if (end - start < 2) return text;
  return `${fence}markdown\n${lines.slice(start, end).join("\n")}\n${fence}`;
}

function isBalanced(text: string): boolean {
  let depth = 0;
  for (const character of text) {
    if (character === "{") depth += 1;
    if (character === "}") depth -= 1;
    if (depth < 0) return false;
  }
  return depth === 0;
}
