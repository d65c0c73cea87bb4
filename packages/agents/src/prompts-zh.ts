// Chinese wording of everything the agents are told.
import type { Role, StopReason, Task, ToolDefinition } from "@wideseek/spec";
import type { AgentTexts } from "./prompts.ts";
import { compactTextsEn } from "./prompts-en.ts";

const fence = "```";

const answerFormats: Readonly<Record<Task["kind"], string>> = {
  table: `最终答案是一个 Markdown 表格，放在以 ${fence}markdown 开头、以 ${fence} 结尾的代码块中：表头正好是题目要求的列，每个条目一行，能查到的值不要留空。`,
  qa: "最终答案写在 \\boxed{...} 中：只写答案本身，尽量简短。",
};

const leadExamples = `
# 示例
示例 1。问题：“列出北国和南国各自最长的四条河流，包括长度、源头和河口。”
第 1 轮：还不知道有哪些河流，先查名单，每个国家一个子智能体。
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "查找北国最长的四条河流，按长度排序，并给出依据的网页。"}, {"prompt": "查找南国最长的四条河流，按长度排序，并给出依据的网页。"}]}}
</tool_call>
第 2 轮：八条河流已知，每条河流一个子任务，一次调用即可。
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "北国的阿恩河：查找长度（公里）、源头和河口。"}, {"prompt": "北国的布吕河：查找长度（公里）、源头和河口。"}, ……其余六条河流各一项]}}
</tool_call>
第 3 轮：有两条河流没有查到长度，只针对这两处空缺换一种说法再次委派。
第 4 轮：信息齐全，不再调用工具，写出表格。

示例 2。问题：“港口联盟的所有创始成员，包括建立年份、市长和人口。”
第 1 轮：还不知道成员有哪些，先由一个子智能体查出完整名单。
<tool_call>
{"name": "create_sub_agents", "arguments": {"sub_agents": [{"prompt": "查找港口联盟创始成员的完整名单，说明共有多少个，以及出自哪个网页。"}]}}
</tool_call>
第 2 轮：共十四个成员，每次调用最多十个子智能体：先委派前十个，每个城镇一个子任务；其余四个在第 3 轮委派。
第 4 轮：把所有报告与名单核对，没有遗漏，写出表格。`;

const singleExamples = `
# 示例
示例 1。问题：“列出北国和南国各自最长的四条河流，包括长度、源头和河口。”
第 1 轮：先查名单。
<tool_call>
{"name": "search", "arguments": {"query": "北国 最长河流 列表", "count": 5}}
</tool_call>
第 2 轮：同样查南国。从第 3 轮起，每条河流搜索一次：
<tool_call>
{"name": "search", "arguments": {"query": "北国 阿恩河 长度 源头 河口", "count": 3}}
</tool_call>
如果搜索结果缺少某个值，就用 access 阅读最相关的网页。每个单元格都已知后写出表格。

示例 2。问题：“港口联盟的所有创始成员，包括建立年份、市长和人口。”
第 1 轮：先查完整名单。
<tool_call>
{"name": "search", "arguments": {"query": "港口联盟 创始成员", "count": 5}}
</tool_call>
然后每个城镇搜索一次（count 为 3），直到没有遗漏。`;

function leadPrompt(kind: Task["kind"]): string {
  return `你是一个团队的主智能体，负责回答困难的调研问题。你自己不能查找资料，而是把问题拆分成更简单、更清楚的子任务，交给能够搜索和阅读网页的子智能体。

# 工作方式
- 行动之前以及每次得到新信息之后，先在 <think> 和 </think> 之间思考。
- 除非问题很简单，否则调用 create_sub_agents。同一次调用的子智能体同时工作，因此子任务之间不能互相依赖，也不能有先后顺序；每个子任务只关注一个方面。
- 子智能体只能看到主问题和自己的子任务，看不到你的思考和其他子任务。每个子任务都要写得可以单独理解：完整的名称、要查找什么、使用什么单位。
- 子智能体的报告会在下一轮作为工具结果返回。
- 可以分多轮委派。每一轮先检查已有的报告：已知什么、缺少什么、哪里矛盾，再只针对这些创建新的子任务，直到信息足够。
- 信息足够后，不再调用工具，直接写出最终答案。

# 最终答案
${answerFormats[kind]}
${kind === "table" ? leadExamples : ""}`.trimEnd();
}

const researchRules = `- 行动之前以及每次得到新信息之后，先在 <think> 和 </think> 之间思考。
- search 用一个概括的查询返回网页地址和开头内容；access 阅读一个网页的全文。通常先搜索，再阅读最相关的网页。
- 只阅读搜索返回的网址，绝不编造网址。`;

const subagentPrompt = `你是子智能体，为主智能体完成一个大任务中的一部分。请准确地完成你的子任务并给出依据；不要试图回答整个主问题，但要记住它。

# 工作方式
${researchRules}
- 同一轮中的多个调用并行执行，没有先后顺序。
- 分多轮进行：查看已有结果，指出还缺什么，换一种说法继续搜索。

# 报告
子任务完成后，或者确实查不到更多信息时，不再调用工具，直接写出报告。主智能体只能看到这份报告：要清楚、有条理，写明每一项所要求的事实、支持它的细节，以及没有查到的内容。`;

function singlePrompt(kind: Task["kind"]): string {
  return `你通过搜索和阅读网页来回答困难的调研问题。

# 工作方式
${researchRules}
- 一步一步进行：先明确问题需要什么，再逐项查找，直到没有遗漏。

# 最终答案
${answerFormats[kind]}
${kind === "table" ? singleExamples : ""}`.trimEnd();
}

const stopReasons: Readonly<Record<Exclude<StopReason, "answered">, string>> = {
  context: "上下文已满",
  turns: "轮数已用完",
  timeout: "时间已到",
  error: "发生技术错误",
};

export const fullTextsZh: AgentTexts = {
  systemPrompt(role: Role, kind: Task["kind"]): string {
    if (role === "subagent") return subagentPrompt;
    return role === "lead" ? leadPrompt(kind) : singlePrompt(kind);
  },
  userMessage(role: Role, question: string, subtask: string): string {
    if (role === "lead") return `# 问题\n${question}`;
    if (role === "subagent") return `# 主问题（整个团队的任务）\n${question}\n\n# 你的子任务\n${subtask}`;
    return `# 问题\n${question}\n\n请给出完整的答案和支持它的信息。`;
  },
  firstTurn: (maxTurns) => `这是第 1 轮。必须在 ${maxTurns} 轮之内完成全部回答。`,
  nextTurn: (turn, maxTurns) => `下一轮是第 ${turn} 轮。最迟必须在第 ${maxTurns} 轮完成全部回答。`,
  answerNow: "下一轮是最后一轮：轮数或上下文已用完。不要调用工具，请根据已有信息立即给出最终答案。",
  createSubAgents: (maxSubagentsPerCall): ToolDefinition => ({
    type: "function",
    function: {
      name: "create_sub_agents",
      description: `启动子智能体，每个子智能体完成给它的任务并提交报告。每次调用最多 ${maxSubagentsPerCall} 个，并行执行，没有先后顺序。`,
      parameters: {
        type: "object",
        properties: {
          sub_agents: {
            type: "array",
            description: "要启动的子智能体。",
            items: {
              type: "object",
              properties: { prompt: { type: "string", description: "子任务的全部细节，可以单独理解。" } },
              required: ["prompt"],
            },
          },
        },
        required: ["sub_agents"],
      },
    },
  }),
  subtask: (k) => `# 子任务 ${k}：`,
  result: "# 结果：",
  callError: "# 工具调用错误：",
  cut: (numCharacters) => `[……此处截断：还有 ${numCharacters} 个字符放不进你的上下文]`,
  turnCutOff: (numTokens) => `你的回合在 ${numTokens} 个词元后被截断，已达到每轮上限。请简短一些。`,
  noSuchTool: (name) => `没有名为“${name}”的工具。唯一可用的工具：create_sub_agents。`,
  expectedForm: (example) => `正确的调用示例：${example}`,
  toolFailed: (reason) => `工具执行失败：${reason}`,
  droppedSubtasks: (numDropped, limit) =>
    `每次调用只启动前 ${limit} 个子智能体，其余 ${numDropped} 个未启动。如有需要，请在另一次调用中提交。`,
  notRun: (maxSubagents) => `未执行：可用的 ${maxSubagents} 个子智能体已全部用完。请根据已有信息回答。`,
  emptyReport: "子智能体结束了，但没有写报告。",
  failedReport: (reason, findings) =>
    `子智能体未完成任务，原因：${stopReasons[reason]}。${
      findings === "" ? "它没有写下任何内容，请用更小的子任务重试。" : `到目前为止它写下的内容：\n${findings}`
    }`,
};

const compactSystem: Readonly<Record<Role, Readonly<Record<Task["kind"], string>>>> = {
  lead: {
    table: `你是主智能体。用 create_sub_agents 拆分问题，再用 ${fence}markdown 表格回答。`,
    qa: "你是主智能体。用 create_sub_agents 查找，再用 \\boxed{} 回答。",
  },
  subagent: { table: "用 search 和 access 完成子任务，再报告。", qa: "用 search 和 access 完成子任务，再报告。" },
  single: {
    table: `用 search 和 access 查找，再用 ${fence}markdown 表格回答。`,
    qa: "用 search 和 access 查找，再用 \\boxed{} 回答。",
  },
};

/** A warning costs tokens in every turn; a small model is warned only when it matters. */
const fewTurns = 2;

export const compactTextsZh: AgentTexts = {
  ...fullTextsZh,
  systemPrompt: (role, kind) => compactSystem[role][kind],
  userMessage: (role, question, subtask) => (role === "subagent" ? subtask : question),
  firstTurn: () => "",
  nextTurn(turn: number, maxTurns: number): string {
    const numLeft = maxTurns - turn + 1;
    return numLeft <= fewTurns ? `还有 ${numLeft} 轮。` : "";
  },
  answerNow: "最后一轮：立即回答。",
  createSubAgents: compactTextsEn.createSubAgents,
  cut: () => "[截断]",
  turnCutOff: () => "回合过长。",
  notRun: () => "未执行：子智能体已用完。",
  droppedSubtasks: (numDropped, limit) => `每次最多 ${limit} 个子智能体：${numDropped} 个未执行。`,
  emptyReport: "没有报告。",
  failedReport: (reason, findings) =>
    findings === "" ? `失败：${stopReasons[reason]}。` : `失败：${stopReasons[reason]}。已有内容：\n${findings}`,
};
