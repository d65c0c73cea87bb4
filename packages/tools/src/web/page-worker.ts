// The worker's side of page-extractor.ts.
import { pageMarkdown } from "./page-markdown.ts";

export default function extract({ html, address }: { html: string; address: string }): string {
  return pageMarkdown(html, address);
}
