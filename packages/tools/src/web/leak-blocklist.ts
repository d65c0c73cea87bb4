// Places on the web that hold the questions of a benchmark with their answers. Owns the default list and how addresses
// and texts are compared with a list.

import type { BlocklistOptions } from "./options.ts";

/** Where WideSearch, the seven question sets and the data of WideSeek-R1 are published, mirrored and discussed. */
export const defaultLeakAddresses: readonly string[] = [
  "huggingface.co/datasets",
  "huggingface.co/papers",
  "huggingface.co/spaces/*widesearch",
  "huggingface.co/RLinf",
  "hf.co",
  "hf-mirror.com",
  "datasets-server.huggingface.co",
  "modelscope.cn/datasets",
  "modelscope.ai/datasets",
  "opendatalab.com",
  "kaggle.com/datasets/*widesearch",
  "github.com/*widesearch",
  "github.com/*wide-search",
  "github.com/*wideseek",
  "github.com/RLinf",
  "github.com/ByteDance-Seed/WideSearch",
  "github.com/inclusionAI/ASearcher",
  "github.com/PeterGriffinJin/Search-R1",
  "raw.githubusercontent.com/*widesearch",
  "raw.githubusercontent.com/*wideseek",
  "raw.githubusercontent.com/RLinf",
  "codeload.github.com/*widesearch",
  "cdn.jsdelivr.net/*widesearch",
  "gist.github.com/*widesearch",
  "widesearch-seed.github.io",
  "wideseek-r1.github.io",
  "arxiv.org/*2508.07999",
  "alphaxiv.org/*2508.07999",
  "paperswithcode.com/dataset",
  "paperswithcode.com/paper/widesearch",
  "hotpotqa.github.io",
  "nlp.cs.washington.edu/triviaqa",
  "ai.google.com/research/NaturalQuestions",
];

/** Names of the benchmark's own fields and samples: no page of the world has them by chance. */
export const defaultLeakPhrases: readonly string[] = [
  "ws_en_0",
  "ws_en_1",
  "ws_zh_0",
  "ws_zh_1",
  "ByteDance-Seed/WideSearch",
  "WideSearch: Benchmarking Agentic Broad Info-Seeking",
  '"unique_columns":',
];

export class LeakBlocklist {
  readonly #addresses: readonly RegExp[];
  readonly #phrase: RegExp;

  constructor({ addresses, phrases, defaults }: BlocklistOptions) {
    this.#addresses = [...addresses, ...(defaults ? defaultLeakAddresses : [])].map(addressPattern);
    const texts = [...phrases, ...(defaults ? defaultLeakPhrases : [])].filter((phrase) => phrase.trim() !== "");
    // (?!) matches nowhere: an empty list.
    this.#phrase = new RegExp(texts.map(phrasePattern).join("|") || "(?!)", "iu");
  }

  /** Also for addresses that carry a listed one: archives, translators and readers of pages. */
  blocksAddress(address: string): boolean {
    if (this.#addresses.length === 0) return false;
    const canonical = URL.canParse(address) ? [new URL(address).href] : [];
    return [address, ...canonical].flatMap(forms).some((form) => this.#addresses.some((pattern) => pattern.test(form)));
  }

  blocksText(text: string): boolean {
    return this.#phrase.test(text);
  }
}

/** Any white space for white space, and not within a word: "news_en_01" does not have "ws_en_0". */
function phrasePattern(phrase: string): string {
  const words = phrase.trim().split(/\s+/).map(escapePattern).join("\\s+");
  return /^[a-z0-9_]/i.test(words) ? `(?<![A-Za-z0-9_])${words}` : words;
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function addressPattern(entry: string): RegExp {
  const { host = "", path = "" } =
    /^(?:https?:\/\/)?(?:www\.)?(?<host>[^/]*)(?<path>.*)$/i.exec(entry.trim())?.groups ?? {};
  const part = (text: string): string => text.replace(/\/+$/, "").split(/\*+/).map(escapePattern).join("[^?#]*?");
  // A path without a star ends where a part of the address ends; one with a star may go on.
  const end = path.includes("*") ? "" : "(?=$|[/?#&])";
  return new RegExp(`^(?:[^/?#]*\\.)?${part(host.toLowerCase())}(?::\\d+)?${part(path)}${end}`, "i");
}

/** Host and path of the address itself, and of addresses inside it, decoded. */
function forms(address: string): string[] {
  let text = address;
  for (let round = 0; round < 3 && text.includes("%"); round += 1) {
    const decoded = text.replaceAll(/(?:%[0-9a-f]{2})+/gi, (codes) => {
      try {
        return decodeURIComponent(codes);
      } catch {
        return codes;
      }
    });
    if (decoded === text) break;
    text = decoded;
  }
  const parts = text.split(/https?:\/{1,2}/i).slice(1);
  // Archives and readers of pages also take addresses without their scheme.
  const inner = parts.flatMap((part) =>
    [...part.matchAll(/[/=]((?:[\w-]+\.)+[a-z]{2,}\/)/gi)].map(({ index }) => part.slice(index + 1)),
  );
  return [...(parts.length === 0 ? [text] : parts), ...inner].flatMap((form) => {
    const [, host = "", rest = ""] = /^([^/?#]*)(.*)$/s.exec(form) ?? [];
    const path = rest.replaceAll(/\/{2,}/g, "/");
    const translated = /^(.*)\.translate\.goog$/i.exec(host)?.[1];
    // Two hyphens of a translated host are one of the real one, one is a dot.
    const real = translated?.replaceAll("--", "\u0000").replaceAll("-", ".").replaceAll("\u0000", "-");
    return [host.replace(/\.$/, "") + path, ...(real === undefined ? [] : [real + path])];
  });
}
