// Addresses of pages as models, hits and redirects give them. Owns what is an address at all; where it leads is checked
// when the connection is made.
import { WideSeekError } from "@wideseek/spec";

const maxCharacters = 4096;
/** The ports of the web; anything else is more likely a service that nobody meant to show. */
const ports: readonly string[] = ["", "80", "443", "8080", "8443"];

export interface WebUrlRule {
  /** Default: the ports of the web. */
  allowsPort?: ((port: string) => boolean) | undefined;
}

/**
 * The address in its canonical form, without fragment: `HTTP://0x7f.1/#a` becomes `http://127.0.0.1/`.
 * @throws WS_INVALID_ARGUMENT, for the model to read
 */
export function parseWebUrl(text: string, { allowsPort = (port) => ports.includes(port) }: WebUrlRule = {}): URL {
  const refuse = (why: string): WideSeekError =>
    new WideSeekError("WS_INVALID_ARGUMENT", `${shown(text)}: ${why}`, { op: "access" });
  if (text.length > maxCharacters) throw refuse(`longer than ${maxCharacters} characters`);
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    throw refuse("not a complete address; it must look like https://example.org/page");
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") throw refuse("only http and https pages can be read");
  if (url.username !== "" || url.password !== "") throw refuse("an address with a user or password is not read");
  if (!allowsPort(url.port)) throw refuse(`port ${url.port} is not one of the web`);
  // A name that ends in a dot is the same name; without the dot it is also the same key.
  if (url.hostname.endsWith(".")) url.hostname = url.hostname.replace(/\.+$/, "");
  if (url.hostname === "") throw refuse("no host");
  url.hash = "";
  return url;
}

/** Host of a URL as connections know it: IPv6 without brackets. */
export function bareHost(hostname: string): string {
  return hostname.startsWith("[") && hostname.endsWith("]") ? hostname.slice(1, -1) : hostname;
}

function shown(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}...`;
}
