// HTML to Markdown: what a page says, with its headings, lists, links and tables, without what surrounds it. Runs in a
// worker, so it imports nothing of ours but the tables.
import { createDocument } from "@mixmark-io/domino";
import { Readability } from "@mozilla/readability";
import TurndownService from "turndown";
import { simplifyTables } from "./table-grid.ts";

const notContent =
  "script,style,noscript,template,iframe,object,embed,svg,canvas,video,audio,picture,img,button,input,select,textarea," +
  "dialog,[hidden],.mw-editsection,sup.reference,.navbox,.mw-jump-link,#toc,.toc,.printfooter";
const surroundings =
  "nav,aside,footer,[role=navigation],[role=banner],[role=contentinfo],[role=complementary],[role=search]," +
  "body > header,.cookie,#cookie-banner";

/** Gives the DOM the two things that Readability needs and it lacks: lists for `for ... of`, and an address. */
function fitForReadability(document: Document, address: string): void {
  for (const name of ["baseURI", "documentURI"]) Object.defineProperty(document, name, { value: address });
  const lists: object[] = [document.querySelectorAll("*"), document.getElementsByTagName("*"), document.childNodes];
  for (const list of [...lists, document.documentElement.children]) {
    const prototype = Object.getPrototypeOf(list);
    if (Symbol.iterator in prototype) continue;
    Object.defineProperty(prototype, Symbol.iterator, {
      value(this: ArrayLike<Node>) {
        return Array.prototype.slice.call(this).values();
      },
    });
  }
}

/** Title, then the text. Empty when the page says nothing. */
export function pageMarkdown(html: string, address: string): string {
  const document = createDocument(html);
  const title = (document.querySelector("title")?.textContent ?? "").replaceAll(/\s+/g, " ").trim();
  const base = baseAddress(document, address);
  fitForReadability(document, base);
  clean(document, base);
  const content = markedMain(document) ?? unmarkedMain(document);
  const text = markdown(content);
  if (text === "") return "";
  return title === "" || text.startsWith(`# ${title}\n`) ? text : `# ${title}\n\n${text}`;
}

function baseAddress(document: Document, address: string): string {
  try {
    return new URL(document.querySelector("base[href]")?.getAttribute("href") ?? "", address).href;
  } catch {
    return address;
  }
}

function clean(document: Document, base: string): void {
  for (const element of Array.from(document.querySelectorAll(notContent))) element.remove();
  for (const element of Array.from(document.querySelectorAll("[style]"))) {
    if (/display\s*:\s*none|visibility\s*:\s*hidden/i.test(element.getAttribute("style") ?? "")) element.remove();
  }
  for (const link of Array.from(document.querySelectorAll("a[href]"))) {
    const target = linkTarget(link.getAttribute("href") ?? "", base);
    if (target === null) link.removeAttribute("href");
    else link.setAttribute("href", target);
    link.removeAttribute("title");
  }
  for (const element of Array.from(document.querySelectorAll(surroundings))) element.remove();
  simplifyTables(document.body);
}

/** Null for links within the page and to things that are no pages. */
function linkTarget(href: string, base: string): string | null {
  if (href.trim() === "" || href.startsWith("#")) return null;
  try {
    const url = new URL(href, base);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

/** The part that the page calls its main one, unless most of its text is elsewhere. */
function markedMain(document: Document): Element | null {
  const numCharacters = (element: Element): number => (element.textContent ?? "").length;
  const candidates = Array.from(document.querySelectorAll("main,[role=main],#mw-content-text"));
  const best = candidates.sort((a, b) => numCharacters(b) - numCharacters(a))[0];
  return best !== undefined && numCharacters(best) * 2 > numCharacters(document.body) ? best : null;
}

/** Readability is made for prose: it drops tables, lists and headings of pages that have little else. */
function unmarkedMain(document: Document): Element {
  const body = document.body.cloneNode(true) as Element;
  const article = articlePart(document);
  return article !== null && keeps(extent(article), extent(body)) ? article : body;
}

function articlePart(document: Document): Element | null {
  try {
    const article = new Readability<Element>(document, {
      serializer: (node) => node as Element,
      charThreshold: 200,
      keepClasses: false,
    }).parse();
    return article?.content ?? null;
  } catch {
    // It trips over documents that browsers would show; the main part is there in any case.
    return null;
  }
}

interface Extent {
  characters: number;
  cells: number;
  items: number;
  headings: number;
}

function extent(element: Element): Extent {
  const count = (selector: string): number => element.querySelectorAll(selector).length;
  return {
    characters: (element.textContent ?? "").replaceAll(/\s+/g, " ").length,
    cells: count("td"),
    items: count("li"),
    headings: count("h1,h2,h3,h4"),
  };
}

function keeps(article: Extent, whole: Extent): boolean {
  return (
    article.characters >= whole.characters * 0.5 &&
    article.cells >= whole.cells * 0.95 &&
    article.items >= whole.items * 0.5 &&
    article.headings + 1 >= whole.headings * 0.5
  );
}

function markdown(content: Element): string {
  const service = new TurndownService({ headingStyle: "atx", codeBlockStyle: "fenced", bulletListMarker: "-" });
  // Models compare what they read with what they are asked: backslashes before signs are in the way.
  service.escape = (text) => text;
  service.addRule("cell", {
    filter: ["td", "th"],
    replacement: (text) => ` ${text.replaceAll(/\s+/g, " ").trim().replaceAll("|", "\\|")} |`,
  });
  service.addRule("row", {
    filter: "tr",
    replacement: (text, node) => {
      const isFirst = node.previousSibling === null;
      const rule = isFirst ? `\n|${" --- |".repeat(node.childNodes.length)}` : "";
      return `\n|${text}${rule}`;
    },
  });
  service.addRule("table", { filter: ["table"], replacement: (text) => `\n\n${text.trim()}\n\n` });
  service.addRule("section", { filter: ["thead", "tbody", "tfoot"], replacement: (text) => text });
  service.addRule("link", {
    filter: "a",
    replacement: (text, node) => {
      const words = text.replaceAll(/\s+/g, " ").trim();
      const target = (node as Element).getAttribute("href");
      return words === "" || target === null
        ? text
        : `[${words}](${target.replaceAll("(", "%28").replaceAll(")", "%29")})`;
    },
  });
  return service
    .turndown(content as unknown as TurndownService.Node)
    .replaceAll(/[^\S\n]+\n/g, "\n")
    .replaceAll(/^(\s*)(-|\d+\.) {2,}(?=\S)/gm, "$1$2 ")
    .replaceAll(/\n{3,}/g, "\n\n")
    .trim();
}
