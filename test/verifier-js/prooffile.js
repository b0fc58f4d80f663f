// Proof files: FORMAT.md section 11. One entry, or one record of the state,
// shown with nothing but the genesis hash.
import { Refused, hex, text, unbase64, utf8, within } from './bytes.js';
import * as canon from './canon.js';
import { Chain } from './authority.js';
import { parseCheckpoint, verifyCheckpoint } from './checkpoint.js';
import { leafHash, parseEntry, seal } from './entry.js';
import { verifyInclusion } from './merkle.js';
import { any, anyObject, bytes, list, object, oneOf, optional, string } from './shape.js';
import { parseProof, verifyProof } from './trie.js';

const maxBytes = 64 << 20;
const header = 'c2sp.org/tlog-proof@v1\n';

/** verifyProofFile verifies either kind and says what it shows. */
export function verifyProofFile(file, genesisHash) {
  if (file.length > maxBytes) throw new Refused(`proof file of ${file.length} bytes`);
  const start = text(file.subarray(0, header.length));
  return start === header ? verifyEntryProof(file, genesisHash) : verifyStateProof(file, genesisHash);
}

function certified(checkpoint, links, genesisHash) {
  if (links.length === 0) throw new Refused('no authority chain');
  const encoded = links.map((l) => utf8(canon.encode(l)));
  const chain = within('authority 0', () => new Chain(genesisHash, encoded[0]));
  encoded.slice(1).forEach((l, i) => within(`authority ${i + 1}`, () => chain.extend(l)));
  const head = parseCheckpoint(checkpoint);
  return { head, ...verifyCheckpoint(head, chain.forSize(head.size)) };
}

const extraShape = object({ authority: optional(list(anyObject)), entry: bytes() });

function verifyEntryProof(file, genesisHash) {
  const cut = text(file).indexOf('\n\n');
  if (cut < 0) throw new Refused('no checkpoint');
  const [, extra, index, ...hashes] = text(file).slice(0, cut).split('\n');
  if (!extra?.startsWith('extra ') || !/^index (0|[1-9][0-9]{0,15})$/.test(index ?? '')) throw new Refused('want the lines extra and index');
  const { authority, entry } = extraShape(canon.decode(unbase64(extra.slice(6))));
  const seq = Number(index.slice(6));
  const { head, signed } = certified(utf8(text(file).slice(cut + 2)), authority ?? [], genesisHash);
  const path = hashes.map((h) => unbase64(h));
  if (path.some((h) => h.length !== 32)) throw new Refused('a hash is not 32 bytes');
  verifyInclusion(path, seq, head.size, leafHash(entry), head.root);
  const parsed = parseEntry(entry);
  if (parsed.seq !== seq) throw new Refused('the entry has another seq');
  return { shows: `entry ${seq}`, hash: hex(leafHash(entry)), size: head.size, signed };
}

const stateShape = object({
  authority: list(anyObject), checkpoint: string, proof: any, seal: bytes(), seal_proof: list(bytes(32)), type: oneOf('quorate/state-proof.v1'),
});

function verifyStateProof(file, genesisHash) {
  const p = stateShape(canon.decode(file));
  const { head, signed } = certified(utf8(p.checkpoint), p.authority, genesisHash);
  const entry = parseEntry(p.seal);
  if (entry.seq !== head.size - 1) throw new Refused('the checkpoint does not end in the seal');
  verifyInclusion(p.seal_proof, entry.seq, head.size, leafHash(p.seal), head.root);
  const proof = parseProof(p.proof);
  const value = proof.value === undefined ? undefined : utf8(canon.encode(proof.value));
  verifyProof(proof, seal(entry).digest, value);
  return { shows: value ? `record ${proof.key}` : `no record ${proof.key}`, record: value && text(value), size: head.size, signed };
}

