// The state digest and proofs of single records: FORMAT.md section 8.
import { H, Refused, concat, equal, u16, utf8 } from './bytes.js';
import { any, bytes, list, object, optional, maybe, string, uint } from './shape.js';

const zero = new Uint8Array(32);
const isZero = (h) => equal(h, zero);
const nibble = (path, depth) => (depth % 2 ? path[depth >> 1] & 15 : path[depth >> 1] >> 4);
const path = (key) => H(utf8(key));

/** recordHash of a key and the hash of its value. */
export function recordHash(key, valueHash) {
  const k = utf8(key);
  return H(0x00, u16(k.length), k, valueHash);
}

/** digest of a list of [key, value bytes]. */
export function digest(records) {
  return node(records.map(([key, value]) => ({ path: path(key), hash: recordHash(key, H(value)) })), 0);
}

function node(records, depth) {
  if (records.length === 0) return zero;
  if (records.length === 1) return records[0].hash;
  const children = Array.from({ length: 16 }, () => []);
  for (const r of records) children[nibble(r.path, depth)].push(r);
  return H(concat(0x01, ...children.map((c) => node(c, depth + 1))));
}

const proofShape = object({
  key: string,
  other: optional(object({ key: string, value: bytes(32) })),
  siblings: list(object({ bitmap: uint, hashes: list(bytes(32), { max: 15 }) }), { max: 64 }),
  value: maybe(any),
});

/** parseProof checks the form of a proof that was decoded from canonical JSON. */
export function parseProof(value) {
  const proof = proofShape(value);
  for (const key of [proof.key, proof.other?.key ?? 'x']) {
    if (key.length < 1 || key.length > 1024) throw new Refused('key: want 1 to 1,024 bytes');
  }
  return proof;
}

/** verifyProof of a record with value bytes, or of its absence without. */
export function verifyProof(proof, stateDigest, value) {
  const own = path(proof.key);
  const { siblings } = proof;
  if (value && proof.other) throw new Refused('a value and another record');
  let at = zero;
  if (value) at = recordHash(proof.key, H(value));
  else if (proof.other) at = otherRecord(proof, own);
  // A branch holds two records at least, so the lowest has another child.
  if (siblings.length && siblings.at(-1).hashes.length === 0) throw new Refused('the lowest branch has no other child');
  for (let depth = siblings.length - 1; depth >= 0; depth--) at = branch(siblings[depth], nibble(own, depth), at);
  if (!equal(at, stateDigest)) throw new Refused(`the proof of ${proof.key} does not lead to the digest`);
}

function otherRecord(proof, own) {
  const other = path(proof.other.key);
  if (proof.other.key === proof.key) throw new Refused('the other record is the one that should be absent');
  for (let d = 0; d < proof.siblings.length; d++) {
    if (nibble(other, d) !== nibble(own, d)) throw new Refused('the other record is not on the path');
  }
  return recordHash(proof.other.key, proof.other.value);
}

function branch({ bitmap, hashes }, own, at) {
  if (bitmap > 0xffff || bitmap & (1 << (15 - own))) throw new Refused('the bitmap does not fit the path');
  const left = [...hashes];
  const children = [];
  for (let i = 0; i < 16; i++) {
    if (i === own) children.push(at);
    else if (bitmap & (1 << (15 - i))) children.push(left.shift() ?? zero);
    else children.push(zero);
  }
  if (left.length || popcount(bitmap) !== hashes.length || hashes.some(isZero)) throw new Refused('the hashes do not fit the bitmap');
  return H(concat(0x01, ...children));
}

function popcount(n) {
  let count = 0;
  for (; n; n &= n - 1) count++;
  return count;
}
