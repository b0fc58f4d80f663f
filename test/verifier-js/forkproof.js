// Fork proofs: FORMAT.md section 16. One replica signed two heads that no one
// history has, shown with nothing but the genesis hash.
import { Refused, equal, hex, utf8, within } from './bytes.js';
import { walk } from './authority.js';
import { cosignedBy, parseCheckpoint } from './checkpoint.js';
import { keyID } from './cose.js';
import { verifyConsistency } from './merkle.js';
import { anyObject, bytes, list, object, oneOf, string } from './shape.js';

export const forkProofType = 'quorate/fork-proof.v1';

const maxConsistency = 128;
const shape = object({
  authority: list(anyObject, { min: 1 }), consistency: list(bytes(32), { max: maxConsistency }), ours: string, root: bytes(32), theirs: string,
  type: oneOf(forkProofType),
});

/** verifyForkProof verifies a decoded file and says what it shows, and of whom. */
export function verifyForkProof(value, genesisHash) {
  const p = shape(value);
  const chain = walk(p.authority, genesisHash);
  const [ours, theirs] = ['ours', 'theirs'].map((which) => within(which, () => soleCosignature(p[which], chain.latest.origin)));
  const { name } = ours.pairs[0];
  if (theirs.pairs[0].name !== name) throw new Refused(`the heads are of ${name} and of ${theirs.pairs[0].name}`);
  if (equal(theirs.root, p.root)) throw new Refused('both heads are of one history');
  verifyConsistency(p.consistency, theirs.size, p.root, ours.size, ours.root);
  const { authority, replica } = signer(chain, ours, theirs);
  return {
    shows: `FORK: replica ${name} of ${replica.operator}, key ${hex(keyID(replica.public))}, signed root ${hex(theirs.root)} at size ${theirs.size}, ` +
      `and a head of size ${ours.size} whose history has root ${hex(p.root)} there`,
    replica: name, operator: replica.operator, key: keyID(replica.public), generation: authority.generation,
    ours: ours.size, theirs: theirs.size, root: p.root, forked: theirs.root, signed: theirs.pairs[0].line65.time,
  };
}

// soleCosignature reads a note of the ledger that one replica signed, and nobody else.
function soleCosignature(note, origin) {
  const head = parseCheckpoint(utf8(note));
  if (head.origin !== origin) throw new Refused(`it is of ${head.origin}, not of ${origin}`);
  if (head.pairs.length !== 1 || head.logLines.length > 0 || head.others > 0) throw new Refused('want one cosignature and no other line');
  return head;
}

// signer finds who signed both: one key of an active replica, in the generation
// of one authority. After a recovery a replica rightly signs other heads.
function signer(chain, ours, theirs) {
  for (const { authority } of chain.steps) {
    for (const replica of authority.replicas.filter((r) => !r.joining)) {
      if ([ours, theirs].every((head) => cosignedBy(authority, replica, head, head.pairs[0]))) return { authority, replica };
    }
  }
  throw new Refused(`no key that ${ours.pairs[0].name} had signed both`);
}
