// Join packs: FORMAT.md section 18. A head that the council in force endorsed,
// shown with nothing but the genesis hash. How old that may be is for the reader.
import { Refused, concat, u64, utf8, within } from './bytes.js';
import * as canon from './canon.js';
import { walk, wanted } from './authority.js';
import { branchOf, parseCheckpoint } from './checkpoint.js';
import { verify65 } from './cose.js';
import { anyObject, bytes, list, name, object, oneOf, sorted, string, uint } from './shape.js';

const maxBytes = 64 << 20;
const maxEndorsements = 64;

const endorsementShape = object({ name, signature: bytes(), time: uint });
const packShape = object({
  authority: list(anyObject, { min: 1 }), checkpoint: string, endorsements: sorted(endorsementShape), type: oneOf('quorate/join-pack.v1'),
});

/** verifyJoinPack gives {size, endorsed, by}: since when, and by which governors. */
export function verifyJoinPack(file, genesisHash) {
  if (file.length > maxBytes) throw new Refused(`join pack of ${file.length} bytes`);
  const p = packShape(canon.decode(file));
  if (p.endorsements.length > maxEndorsements) throw new Refused(`${p.endorsements.length} endorsements`);
  const chain = walk(p.authority, genesisHash);
  const head = parseCheckpoint(utf8(p.checkpoint));
  chain.certify(head);
  if (chain.steps.at(-1).size > head.size) throw new Refused('the chain goes on beyond the head');
  const council = chain.latest;
  const newest = new Map();
  for (const e of p.endorsements) {
    const operator = within(`endorsement of ${e.name}`, () => endorser(e, head, council));
    newest.set(operator, Math.max(e.time, newest.get(operator) ?? 0));
  }
  const times = [...newest.values()].sort((a, b) => b - a);
  const needed = Math.max(...wanted('council.change', council));
  if (times.length < needed) throw new Refused(`endorsed by ${times.length} operators, needs ${needed}`);
  return { size: head.size, endorsed: times[needed - 1], by: p.endorsements.map((e) => e.name) };
}

function endorser({ name: who, signature, time }, head, record) {
  const member = record.council.find((m) => m.name === who);
  if (!member) throw new Refused('no governor of this name was in the council');
  if (time === 0) throw new Refused('it has no time');
  const message = concat('quorate/endorsement/v1\n\0', branchOf(record), u64(time), head.text);
  if (!verify65(member.public, message, signature)) throw new Refused('the signature does not verify');
  return member.operator;
}
