// Which IP addresses belong to the public internet. Owns the table; resolves no names.
import { BlockList, isIPv4, isIPv6 } from "node:net";
import { WideSeekError } from "@wideseek/spec";

/** Of the IANA special-purpose address registry: everything that is not plain unicast of somebody on the internet. */
const specialV4 = [
  ["0.0.0.0", 8], // this host
  ["10.0.0.0", 8], // private
  ["100.64.0.0", 10], // carrier-grade NAT; metadata of some clouds
  ["127.0.0.0", 8], // loopback
  ["168.63.129.16", 32], // public by number, but inside every Azure machine
  ["169.254.0.0", 16], // link-local; metadata of most clouds
  ["172.16.0.0", 12], // private
  ["192.0.0.0", 24], // protocol assignments
  ["192.0.2.0", 24], // documentation
  ["192.31.196.0", 24], // AS112
  ["192.52.193.0", 24], // AMT
  ["192.88.99.0", 24], // 6to4 relays
  ["192.168.0.0", 16], // private
  ["192.175.48.0", 24], // AS112
  ["198.18.0.0", 15], // benchmarks
  ["198.51.100.0", 24], // documentation
  ["203.0.113.0", 24], // documentation
  ["224.0.0.0", 4], // multicast
  ["240.0.0.0", 4], // reserved, broadcast
] as const;

/** Inside 2000::/3, the only part of IPv6 that is given out; mapped, NAT64, local and multicast addresses lie outside. */
const specialV6 = [
  ["2001::", 23], // protocol assignments: Teredo, ORCHID, benchmarks
  ["2001:db8::", 32], // documentation
  ["2002::", 16], // 6to4: any IPv4 address in other clothes
  ["2620:4f:8000::", 48], // AS112
  ["3fff::", 20], // documentation
] as const;

const special = new BlockList();
for (const [network, prefix] of specialV4) special.addSubnet(network, prefix, "ipv4");
for (const [network, prefix] of specialV6) special.addSubnet(network, prefix, "ipv6");
const givenOutV6 = new BlockList();
givenOutV6.addSubnet("2000::", 3, "ipv6");

/** False for everything that is no address in its usual form: names, zones (`%eth0`), brackets, IPv4 as one number. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !special.check(address, "ipv4");
  if (!isIPv6(address) || address.includes("%")) return false;
  return givenOutV6.check(address, "ipv6") && !special.check(address, "ipv6");
}

/** Says nothing about where the name leads: that would be a map of the network. */
export function notPublic(host: string): WideSeekError {
  return new WideSeekError("WS_INVALID_ARGUMENT", `${host}: not a public web address, so it is not read`, {
    op: "access",
  });
}
