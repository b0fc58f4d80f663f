// Proof files: FORMAT.md sections 11 and 16. One entry, one record of the state,
// or that a replica forked, shown with nothing but the genesis hash.
import { Refused, equal, hex, text, unbase64, utf8, within } from './bytes.js';
import * as canon from './canon.js';
import { walk } from './authority.js';
import { parseCheckpoint } from './checkpoint.js';
import { parseStatement } from './cose.js';
import { leafHash, parseEntry, seal } from './entry.js';
import { forkProofType, verifyForkProof } from './forkproof.js';
import { verifyInclusion } from './merkle.js';
import { any, anyObject, bool, bytes, list, maybe, name, object, oneOf, optional, string, uint } from './shape.js';
import { parseProof, verifyProof } from './trie.js';

const maxBytes = 64 << 20;
const header = 'c2sp.org/tlog-proof@v1\n';

/**
 * verifyProofFile verifies a file of any kind and says what it shows. A file
 * without an authority chain of its own needs the reader's.
 */
export function verifyProofFile(file, genesisHash, chain) {
  if (file.length > maxBytes) throw new Refused(`proof file of ${file.length} bytes`);
  const start = utf8(header);
  if (equal(file.subarray(0, start.length), start)) return verifyEntryProof(file, genesisHash, chain);
  const p = canon.decode(file);
  return p?.type === forkProofType ? verifyForkProof(p, genesisHash) : verifyStateProof(p, genesisHash);
}

function certified(checkpoint, chain) {
  const head = parseCheckpoint(checkpoint);
  return { head, ...chain.certify(head) };
}

const keyProofShape = object({ checkpoint: string, proof: any, seal: bytes(), seal_proof: list(bytes(32)) });

const extraShape = object({ authority: optional(list(anyObject)), entry: bytes(), key: maybe(keyProofShape) });

const keyRecordShape = object({
  destroyed: optional(uint), ended: optional(string), holder: name, how: optional(string), last: optional(uint), next: maybe(bytes(32)), previous: maybe(bytes(32)),
  revoked: optional(bool), revoked_from: maybe(uint), role: string, said: optional(uint), since: uint, valid_from: optional(uint), valid_to: maybe(uint),
});

// checkKey: the record of the key that a statement names, at a head that has its entry, does not dispute it.
function checkKey(p, entry, chain) {
  const shown = verifyStateAt(p, chain);
  if (entry.kind !== 'statement') throw new Refused('the entry is no statement');
  const s = parseStatement(entry.content);
  if (shown.key !== `key/${hex(s.kid)}` || shown.value === undefined || shown.size <= entry.seq) throw new Refused("it proves no record of the statement's key, or an earlier one");
  const key = keyRecordShape(canon.decode(utf8(shown.value)));
  if (key.holder !== s.author) throw new Refused(`the key is ${key.holder}'s`);
  if (s.epoch === undefined) return;
  if (key.revoked_from <= s.epoch) throw new Refused(`signed in epoch ${s.epoch} under a key that is revoked from epoch ${key.revoked_from} on`);
  if (key.revoked && key.revoked_from === undefined) throw new Refused('the key was revoked, and the ledger does not say from when');
}

function verifyEntryProof(file, genesisHash, ownChain) {
  const all = text(file);
  const cut = all.indexOf('\n\n');
  if (cut < 0) throw new Refused('no checkpoint');
  const [, extra, index, ...hashes] = all.slice(0, cut).split('\n');
  if (!extra?.startsWith('extra ') || !/^index (0|[1-9][0-9]{0,15})$/.test(index ?? '')) throw new Refused('want the lines extra and index');
  const { authority, entry, key } = extraShape(canon.decode(unbase64(extra.slice(6))));
  const seq = Number(index.slice(6));
  const chain = authority ? walk(authority, genesisHash) : ownChain;
  if (!chain) throw new Refused('no authority chain');
  const { head, signed } = certified(utf8(all.slice(cut + 2)), chain);
  const path = hashes.map((h) => unbase64(h));
  if (path.some((h) => h.length !== 32)) throw new Refused('a hash is not 32 bytes');
  verifyInclusion(path, seq, head.size, leafHash(entry), head.root);
  const parsed = parseEntry(entry);
  if (parsed.seq !== seq) throw new Refused('the entry has another seq');
  if (key) within('key', () => checkKey(key, parsed, chain));
  return { shows: `entry ${seq}`, seq, entry, size: head.size, signed };
}

const stateShape = object({
  authority: list(anyObject, { min: 1 }), checkpoint: string, proof: any, seal: bytes(), seal_proof: list(bytes(32)), type: oneOf('quorate/state-proof.v1'),
});

function verifyStateProof(value, genesisHash) {
  const p = stateShape(value);
  return verifyStateAt(p, walk(p.authority, genesisHash));
}

function verifyStateAt(p, chain) {
  const { head, signed } = certified(utf8(p.checkpoint), chain);
  const entry = parseEntry(p.seal);
  if (entry.seq !== head.size - 1) throw new Refused('the checkpoint does not end in the seal');
  verifyInclusion(p.seal_proof, entry.seq, head.size, leafHash(p.seal), head.root);
  const proof = parseProof(p.proof);
  const record = proof.value === undefined ? undefined : utf8(canon.encode(proof.value));
  verifyProof(proof, seal(entry).digest, record);
  return { shows: record ? `record ${proof.key}` : `no record ${proof.key}`, key: proof.key, value: record && text(record), size: head.size, signed };
}

