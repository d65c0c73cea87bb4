// What a search engine and a reader of pages are to the web backend.
import type { SearchHit } from "@wideseek/spec";

export interface SearchEngine extends AsyncDisposable {
  /** Engine and settings: two engines with equal identities give equal answers. Holds no key. */
  readonly identity: string;
  search(query: string, count: number, signal?: AbortSignal): Promise<SearchHit[]>;
  metrics(): Readonly<Record<string, number>>;
}

export interface PageReader extends AsyncDisposable {
  readonly identity: string;
  /**
   * Text of a page, null when there is none at the address. Whatever else is wrong rejects with a text for the model.
   * `checkAddress` throws for addresses that may not be read; it is asked again at every redirect.
   */
  read(url: URL, checkAddress: (url: URL) => void, signal?: AbortSignal): Promise<string | null>;
  metrics(): Readonly<Record<string, number>>;
}
