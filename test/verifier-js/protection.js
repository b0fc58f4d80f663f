// Draws and evidence: FORMAT.md section 17.
import { H, Refused, equal, hex } from './bytes.js';

const drawHash = (what, seed, subject, name) => H('quorate/draw/v1\n', what, 0, seed, subject, 0, name);

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** draw gives the monitors of a subject of operator own, by operator. */
export function draw(seed, subject, own, stables, limit) {
  const lowest = (what, names) => names.map((n) => [hex(drawHash(what, seed, subject, n)), n]).sort((a, b) => compare(a[0], b[0])).map(([, n]) => n);
  const candidates = new Map(stables.filter((s) => s.operator !== own && s.nodes.length > 0).map((s) => [s.operator, s.nodes]));
  return lowest('operator', [...candidates.keys()])
    .slice(0, limit)
    .sort()
    .map((operator) => ({ operator, node: lowest('node', candidates.get(operator))[0] }));
}

/** attests says whether a node attests in the window of this seed. */
export function attests(seed, node, wanted, drawn) {
  if (wanted >= drawn) return true;
  const rank = new DataView(drawHash('attest', seed, '', node).buffer).getUint32(0);
  return BigInt(rank) * BigInt(drawn) < BigInt(wanted) << 32n;
}

const space = (type) => (type === 'probe' || type === 'ack' ? 1 : 0);
const matter = ({ kind }) => (kind.startsWith('link.') ? 'link' : kind === 'node.bad' ? 'bad' : 'node');
const kinds = { flood: 1, equivocation: 2, observation: 2, contradiction: 2 };

/** judge names the offence that exhibits prove, whose signatures it leaves to the caller. */
export function judge(kind, exhibits, quota) {
  if (exhibits.length !== kinds[kind]) throw new Refused(`${kind}: ${exhibits.length} exhibits`);
  const [a, b] = exhibits;
  for (const x of exhibits) {
    if (x.seq === undefined) throw new Refused('without epoch and seq');
    if (!equal(x.kid, a.kid) || x.author !== a.author) throw new Refused('of two authors');
    if (!equal(x.ledger, a.ledger) || x.generation !== a.generation) throw new Refused('for two ledgers');
  }
  const name = (seq, spaceOf, about = ['', '']) => [hex(a.kid), a.epoch, kind, spaceOf, seq, ...about].join('/');
  if (kind === 'flood') {
    if (a.seq < quota) throw new Refused('below the quota');
    return name(0, space(a.type));
  }
  if (kind === 'equivocation') {
    if (a.epoch !== b.epoch || a.seq !== b.seq || space(a.type) !== space(b.type)) throw new Refused('of two seqs');
    if (equal(H(a.signed), H(b.signed))) throw new Refused('one statement');
    return name(a.seq, space(a.type));
  }
  if (a.type !== 'observe' || b.type !== (kind === 'observation' ? 'observe' : 'ack')) throw new Refused('of other types');
  const about = [matter(a.body), a.body.subject];
  if (kind === 'observation') {
    if (a.epoch !== b.epoch || a.body.counter !== b.body.counter || about.join() !== [matter(b.body), b.body.subject].join()) throw new Refused('of two counters');
    if (['cause', 'from', 'kind', 'to'].every((f) => a.body[f] === b.body[f])) throw new Refused('they say the same');
  } else {
    if (a.body.kind !== 'link.down' && a.body.kind !== 'node.down') throw new Refused('says nothing of being reached');
    if (b.body.prober !== a.body.subject || b.body.tick < a.body.from || b.body.tick > a.body.to) throw new Refused('the ack contradicts nothing');
  }
  return name(a.body.counter, 0, about);
}
