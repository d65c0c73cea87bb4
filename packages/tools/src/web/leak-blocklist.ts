// Places on the web that hold the questions of a benchmark with their answers. Owns the default list and how addresses
// and texts are compared with a list.

export interface LeakBlocklistOptions {
  /** Hosts with an optional path, `*` = anything: `example.org/datasets/*wide`; subdomains and longer paths belong to it. */
  addresses: readonly string[];
  /** Texts that only such a page has, in any case and spacing. */
  phrases: readonly string[];
  /** Whether the default list holds too. */
  defaults: boolean;
}

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
  readonly #phrases: readonly string[];

  constructor({ addresses, phrases, defaults }: LeakBlocklistOptions) {
    this.#addresses = [...addresses, ...(defaults ? defaultLeakAddresses : [])].map(addressPattern);
    this.#phrases = [...phrases, ...(defaults ? defaultLeakPhrases : [])]
      .map(comparable)
      .filter((phrase) => phrase !== "");
  }

  /** Also for addresses that carry a listed one: archives, translators and readers of pages. */
  blocksAddress(address: string): boolean {
    if (this.#addresses.length === 0) return false;
    const canonical = URL.canParse(address) ? [new URL(address).href] : [];
    return [address, ...canonical].flatMap(forms).some((form) => this.#addresses.some((pattern) => pattern.test(form)));
  }

  blocksText(text: string): boolean {
    if (this.#phrases.length === 0) return false;
    const searched = comparable(text);
    return this.#phrases.some((phrase) => hasPhrase(searched, phrase));
  }
}

function addressPattern(entry: string): RegExp {
  const { host = "", path = "" } =
    /^(?:https?:\/\/)?(?:www\.)?(?<host>[^/]*)(?<path>.*)$/i.exec(entry.trim())?.groups ?? {};
  const part = (text: string): string =>
    text
      .replace(/\/+$/, "")
      .split(/\*+/)
      .map((piece) => piece.replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&"))
      .join("[^?#]*?");
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

/** Not within a word: "news_en_01" does not have "ws_en_0". */
function hasPhrase(text: string, phrase: string): boolean {
  const isWordLike = /^[a-z0-9_]/;
  for (let at = text.indexOf(phrase); at >= 0; at = text.indexOf(phrase, at + 1)) {
    if (at === 0 || !isWordLike.test(phrase) || !isWordLike.test(text[at - 1] as string)) return true;
  }
  return false;
}

function comparable(text: string): string {
  return text.normalize("NFKC").toLowerCase().replaceAll(/\s+/g, " ").trim();
}
