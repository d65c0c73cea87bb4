// What the tools say to the model, per language. The English labels and notices are the published ones (WideSeek-R1).
import type { Language } from "@wideseek/spec";

export interface ToolTexts {
  searchQuery: string;
  accessUrl: string;
  infoToExtract: string;
  result: string;
  callError: string;
  noHits: string;
  noPage: string;
  failed(reason: string): string;
  timedOut(seconds: number): string;
  noSuchTool(name: string): string;
  expectedForm(example: string): string;
  /** Items of a call beyond the limit. */
  dropped(numDropped: number, limit: number): string;
}

const en: ToolTexts = {
  searchQuery: "# Search query:",
  accessUrl: "# Access URL:",
  infoToExtract: "# Info to extract:",
  result: "# Result:",
  callError: "# Error in tool call:",
  noHits: "No search results are found.",
  noPage: "No More Information is Found for this URL.",
  failed: (reason) => `Tool execution failed: ${reason}`,
  timedOut: (seconds) => `no answer within ${seconds} seconds`,
  noSuchTool: (name) => `You have no tool "${name}". Your tools: search, access.`,
  expectedForm: (example) => `A correct call: ${example}`,
  dropped: (numDropped, limit) =>
    `Only the first ${limit} items of a call are run; ${numDropped} more were left out. Ask for them in another call.`,
};

const zh: ToolTexts = {
  searchQuery: "# 搜索查询：",
  accessUrl: "# 访问网址：",
  infoToExtract: "# 要提取的信息：",
  result: "# 结果：",
  callError: "# 工具调用错误：",
  noHits: "没有找到搜索结果。",
  noPage: "该网址没有更多信息。",
  failed: (reason) => `工具执行失败：${reason}`,
  timedOut: (seconds) => `${seconds} 秒内没有响应`,
  noSuchTool: (name) => `没有名为“${name}”的工具。可用工具：search、access。`,
  expectedForm: (example) => `正确的调用示例：${example}`,
  dropped: (numDropped, limit) =>
    `每次调用只执行前 ${limit} 项，其余 ${numDropped} 项未执行。如有需要，请在另一次调用中提交。`,
};

export const toolTexts: Readonly<Record<Language, ToolTexts>> = { en, zh };
