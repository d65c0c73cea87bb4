// Seeds of single turns. Order and number of other agents cannot change what a turn samples.

const mask = (1n << 64n) - 1n;

/** splitmix64 (Steele, Lea, Flood 2014): one step, a bijection on 64 bits. */
function splitmix64(value: bigint): bigint {
  let z = (value + 0x9e3779b97f4a7c15n) & mask;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask;
  return z ^ (z >> 31n);
}

/** FNV-1a over UTF-16 units. */
function hashText(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < text.length; i += 1) {
    hash = ((hash ^ BigInt(text.charCodeAt(i))) * 0x100000001b3n) & mask;
  }
  return hash;
}

/** Unsigned 64 bits from the episode's seed, the agent and its turn (from 1). */
export function turnSeed(episodeSeed: bigint, agentId: string, turn: number): bigint {
  return splitmix64(splitmix64(splitmix64(episodeSeed & mask) ^ hashText(agentId)) ^ BigInt(turn));
}
