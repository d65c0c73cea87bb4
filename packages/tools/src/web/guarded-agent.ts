// Connections to public addresses only. Owns the check at the moment of connecting: the address that is checked is the
// one that is used, so neither a second answer of the DNS nor a pooled name can lead elsewhere.
import { type LookupAddress, lookup as systemLookup } from "node:dns";
import { isIP, type LookupFunction, type Socket } from "node:net";
import { Agent, buildConnector } from "undici";
import { isPublicAddress, notPublic } from "./public-address.ts";
import { bareHost } from "./web-url.ts";

export interface GuardedAgentOptions {
  maxConnectionsPerHost: number;
  connectMs: number;
  /** Addresses of a name; default: the system's resolver. */
  resolve?: ((hostname: string) => Promise<LookupAddress[]>) | undefined;
  /** Default: public addresses. Tests let their own loopback server through; nothing else may. */
  allows?: ((address: string, port: number) => boolean) | undefined;
}

export function guardedAgent(options: GuardedAgentOptions): Agent {
  const { maxConnectionsPerHost, connectMs, resolve = resolveBySystem, allows = isPublicAddress } = options;
  const connectTo = (port: number): buildConnector.connector => {
    const lookup: LookupFunction = (hostname, { all }, callback) => {
      resolve(hostname).then(
        (addresses) => {
          // One private address among public ones is a trap, not a choice.
          const wrong = addresses.length === 0 || addresses.some(({ address }) => !allows(address, port));
          const [first] = addresses;
          if (wrong || first === undefined) callback(notPublic(hostname), "", 0);
          else if (all) callback(null, addresses);
          else callback(null, first.address, first.family);
        },
        (error: NodeJS.ErrnoException) => callback(error, "", 0),
      );
    };
    return buildConnector({ timeout: connectMs, lookup } as buildConnector.BuildOptions);
  };
  const connectors = new Map<number, buildConnector.connector>();
  const connect: buildConnector.connector = (target, callback) => {
    const host = bareHost(target.hostname);
    const port = Number(target.port) || (target.protocol === "https:" ? 443 : 80);
    // An address needs no lookup, so the socket would not ask.
    if (isIP(host) !== 0 && !allows(host, port)) return callback(notPublic(host), null);
    let connector = connectors.get(port);
    if (connector === undefined) {
      connector = connectTo(port);
      connectors.set(port, connector);
    }
    connector(target, (...[error, socket]: Parameters<buildConnector.Callback>) => {
      if (error !== null) return callback(error, null);
      const address = (socket as Socket).remoteAddress;
      if (address !== undefined && allows(address, port)) return callback(null, socket);
      socket.destroy();
      callback(notPublic(host), null);
    });
  };
  // Ours are the only deadlines of a request; connections are not kept for hosts that are visited once.
  const timeouts = { headersTimeout: 0, bodyTimeout: 0, keepAliveTimeout: 4000 };
  return new Agent({ connect, connections: maxConnectionsPerHost, maxHeaderSize: 65_536, ...timeouts });
}

async function resolveBySystem(hostname: string): Promise<LookupAddress[]> {
  return await new Promise((fulfil, reject) => {
    systemLookup(hostname, { all: true }, (error, addresses) => (error ? reject(error) : fulfil(addresses)));
  });
}
