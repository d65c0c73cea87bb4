// Escaping of text for HTML and SVG, in element content and in quoted attributes.

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Also replaces control characters, which XML forbids and a model may well sample. Tabs and line ends stay. */
export function escapeHtml(text: string): string {
  return text
    .replace(/[&<>"']/g, (character) => entities[character] ?? character)
    .replace(/(?![\t\n\r])\p{Cc}/gu, "\ufffd");
}
