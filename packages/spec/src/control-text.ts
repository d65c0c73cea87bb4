// Texts that a tokenizer or a chat protocol would read as control: written apart, so that no page, hit or answer of a
// tool can close a tool response or open a turn. Owns which texts those are.
//
// Our own tokenizer never makes control tokens of tool text. Servers of other models see text only and would: what a
// summary, a judge or a baseline behind an API reads must be harmless as text.

/**
 * Tags that mean something to a chat template or to the protocol of an agent (Qwen, Hermes, Search-R1, ASearcher, MCP
 * agents), with and without a slash.
 */
const tagNames = [
  ...["think", "thinking", "tool", "tool_call", "tool_calls", "tool_response", "tool_result", "tool_results", "tools"],
  ...["function", "function_call", "function_calls", "function_response", "invoke", "use_mcp_tool", "mcp_tool"],
  ...["information", "search", "access", "result", "results", "answer", "thought", "task", "tasks", "reflection"],
  ...[
    "system",
    "user",
    "assistant",
    "human",
    "start_of_turn",
    "end_of_turn",
    "begin_of_turn",
    "s",
    "bos",
    "eos",
    "pad",
  ],
  ...["end_of_utterance", "reserved_token", "unk", "sys"],
];

/**
 * Nothing to the eye, and dropped by many a reader: soft hyphens, joiners, marks of direction, tags, control characters.
 * White space is none of them: it is what sets a control text apart.
 */
const invisible = "(?:\\uFEFF|(?!\\s)[\\p{Default_Ignorable_Code_Point}\\p{Cc}])*";
/** What NFKC, or a reader, takes for the sign. */
const less = "[<＜﹤‹〈⟨]";
const greater = "[>＞﹥›〉⟩]";
const bar = "[|｜∣│¦ǀ❘]";
const slash = "[/／⁄∕]";
const spelled = (name: string): string => [...name].map((letter) => fold(letter)).join(invisible);

/** A letter of a name as itself, as its other case or as its full-width form. */
function fold(letter: string): string {
  if (letter === "_") return "[_＿▁]";
  const code = letter.charCodeAt(0);
  const upper = letter.toUpperCase();
  const wide = String.fromCharCode(code + 0xfee0) + String.fromCharCode(upper.charCodeAt(0) + 0xfee0);
  return `[${letter}${upper}${wide}]`;
}

const names = [...tagNames].sort((a, b) => b.length - a.length).map(spelled);
/** Each alternative begins with the sign that a space is put behind. */
const controlText = new RegExp(
  [
    // <|im_start|>, <｜User｜>, <|: the opening is enough.
    `${less}(?=${invisible}${bar})`,
    `${bar}(?=${invisible}${greater})`,
    // <think>, </tool_response>, <tool_call name="x">; not <systematic>.
    `${less}(?=${invisible}(?:${slash}${invisible})?(?:${names.join("|")})(?:${invisible}${slash})?${invisible}(?:${greater}|[\\s=:]))`,
    // <<SYS>>, [INST], [/INST], [TOOL_CALLS] and their kin.
    `${less}(?=${less})`,
    `\\[(?=${invisible}(?:${slash}${invisible})?(?:${["INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS"].map((name) => spelled(name.toLowerCase())).join("|")})${invisible}\\])`,
  ].join("|"),
  "gu",
);

/**
 * The text with a space inside every control text, and otherwise unchanged. Never removes anything: what is left of a
 * nested control text after a removal may be one again.
 */
export function withoutControlText(text: string): string {
  return text.replaceAll(controlText, "$& ");
}
