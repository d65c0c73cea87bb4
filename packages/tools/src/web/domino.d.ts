// The one function we use of a DOM whose own types are under another name.
declare module "@mixmark-io/domino" {
  export function createDocument(html?: string, force?: boolean): Document;
}
