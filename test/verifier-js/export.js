// An export (FORMAT.md section 12), verified with the genesis hash as the only
// trust. What is left to a replay: whether each effect and each state digest
// follows from the statements before it.
import { H, Refused, concat, equal, hex, text, within } from './bytes.js';
import { Chain } from './authority.js';
import { cosignerVKey, logVKey, logVKey44, parseCheckpoint } from './checkpoint.js';
import { parseStatement } from './cose.js';
import { effect, leafHash, maxEntryBytes, parseEntry, seal } from './entry.js';
import { asWritten, lineOf } from './lines.js';
import { Frontier, rootOf, tileLevels, tilesOf } from './merkle.js';
import { Principals } from './principals.js';
import { verifyProofFile } from './prooffile.js';
import { verifyTransparent } from './receipt.js';

const hashBytes = 32;

/**
 * verifyExport reads files through source: {read(name) -> bytes or undefined,
 * list(folder) -> names, lines(name) -> async iterable of lines, each as bytes
 * with its line feed}.
 */
export async function verifyExport(source, genesisHash, { progress = () => {} } = {}) {
  await checkNames(source);
  const chain = await readChain(source, genesisHash);
  const head = within('checkpoint', () => parseCheckpoint(chain.checkpoint));
  const { authority, ...certified } = within('checkpoint', () => chain.certify(head));
  if (authority !== chain.latest) throw new Refused('authority: links beyond the checkpoint');

  const walk = new Walk(chain, genesisHash);
  const leaves = await readEntries(source, head, walk, progress);
  walk.finish(head);
  await checkTiles(source, head, leaves);
  await checkKeys(source, authority);
  await checkKeyHistory(source, chain);
  await checkLines(source, walk, leaves);
  await checkProofs(source, genesisHash, chain, leaves);
  return {
    origin: head.origin, size: head.size, root: hex(head.root), signed: certified.signed, cosigners: certified.cosigners,
    threshold: authority.cosign_threshold, authority: authority.index, ...walk.counts,
  };
}

const topFiles = ['checkpoint', 'entries.jsonl', 'genesis.cbor', 'log-mldsa44.vkey', 'log.vkey', 'log.vkeys', 'policy'];

// checkNames refuses what nothing below would look into.
async function checkNames(source) {
  for (const name of await source.list('')) {
    if (!topFiles.includes(name) && !/^(authority|tile|proofs)\//.test(name)) throw new Refused(`${name} does not belong in an export`);
  }
}

async function must(source, name) {
  const b = await source.read(name);
  if (!b) throw new Refused(`${name} is missing`);
  return b;
}

async function readChain(source, genesisHash) {
  const first = await must(source, 'authority/0.json');
  const chain = within('authority/0.json', () => new Chain(genesisHash, first));
  const names = (await source.list('authority')).length;
  for (let n = 1; n < names; n++) {
    const link = await must(source, `authority/${n}.json`);
    within(`authority/${n}.json`, () => chain.extend(link));
  }
  if (!equal(await must(source, 'genesis.cbor'), chain.genesisEntry)) throw new Refused('genesis.cbor is not entry 0');
  chain.checkpoint = await must(source, 'checkpoint');
  return chain;
}

// readEntries gives every leaf hash; each entry is checked as it comes, so the
// first bad one is the one named.
async function readEntries(source, head, walk, progress) {
  const leaves = [];
  for (const tile of tilesOf('entries', head.size)) {
    const bundle = await must(source, tile.path);
    const hashes = await must(source, tile.path.replace('tile/entries/', 'tile/0/'));
    if (hashes.length !== tile.width * hashBytes) throw new Refused(`${tile.path.replace('entries', '0')}: want ${tile.width} hashes`);
    let at = 0;
    for (let i = 0; i < tile.width; i++) {
      const seq = leaves.length;
      at = within(`entry ${seq}`, () => {
        const { entry, next } = entryAt(bundle, at);
        const leaf = leafHash(entry);
        if (!equal(leaf, hashes.subarray(i * hashBytes, (i + 1) * hashBytes))) {
          throw new Refused(`its bytes in ${tile.path} do not have the hash that the tile above gives`);
        }
        walk.take(entry, leaf);
        leaves.push(leaf);
        return next;
      });
    }
    if (at !== bundle.length) throw new Refused(`${tile.path}: bytes after the last entry`);
    progress(leaves.length, head.size);
  }
  return leaves;
}

function entryAt(bundle, at) {
  if (at + 2 > bundle.length) throw new Refused('its bundle ends early');
  const n = (bundle[at] << 8) | bundle[at + 1];
  if (n > maxEntryBytes || at + 2 + n > bundle.length) throw new Refused('its bundle ends early');
  return { entry: bundle.subarray(at + 2, at + 2 + n), next: at + 2 + n };
}

// Walk holds what one entry must agree on with those before it.
class Walk {
  constructor(chain, genesisHash) {
    this.chain = chain;
    this.genesisHash = genesisHash;
    this.principals = new Principals(chain.genesis);
    this.prev = new Uint8Array(hashBytes);
    this.stamp = 0;
    this.tree = new Frontier();
    this.handovers = 0;
    this.generation = 0;
    this.last = undefined;
    this.lines = []; // hashes of the lines of entries.jsonl
    this.counts = { statements: 0, effects: 0, seals: 0 };
    // What the links say of the log: seq to bytes.
    this.linked = new Map([[0, chain.genesisEntry]]);
    for (const step of chain.steps.slice(1)) {
      this.linked.set(step.size - 1, step.seal);
      for (const s of step.statements) this.linked.set(s.seq, s.entry);
    }
  }

  take(bytes, leaf) {
    const entry = parseEntry(bytes);
    if (entry.seq !== this.tree.size) throw new Refused(`has seq ${entry.seq}`);
    if (!equal(entry.prev, this.prev)) throw new Refused('prev is not the hash of the entry before');
    if (entry.stamp < this.stamp) throw new Refused('its stamp falls');
    const linked = this.linked.get(entry.seq);
    if (linked && !equal(linked, bytes)) throw new Refused('the authority chain has other bytes for it');
    const statement = this[entry.kind](entry);
    this.prev = leaf;
    this.stamp = entry.stamp;
    this.last = entry;
    this.tree.push(leaf);
    this.lines.push(H(lineOf(bytes, leaf, entry, statement)));
  }

  genesis(entry) {
    if (entry.seq !== 0) throw new Refused('a genesis that is not entry 0'); // that one the chain checked
  }

  statement(entry) {
    const s = parseStatement(entry.content);
    if (!equal(s.ledger, this.genesisHash)) throw new Refused('a statement for another ledger');
    if (s.generation !== this.generation) throw new Refused(`a statement of generation ${s.generation}`);
    this.principals.accept(s);
    this.counts.statements++;
    return s;
  }

  effect(entry) {
    const e = effect(entry);
    if (e.causes.some((seq) => seq >= entry.seq)) throw new Refused('an effect before its cause');
    this.generation = this.principals.happened(e) ?? this.generation;
    this.counts.effects++;
  }

  seal(entry) {
    const s = seal(entry);
    if (s.handover !== undefined) {
      const step = this.chain.steps[++this.handovers];
      if (s.handover !== this.handovers) throw new Refused(`a seal of handover ${s.handover}, want ${this.handovers}`);
      if (!step || step.size !== entry.seq + 1) throw new Refused(`handover ${s.handover} has no link in the authority chain`);
    }
    this.counts.seals++;
  }

  finish(head) {
    if (!equal(this.tree.root(), head.root)) throw new Refused('the root of the entries is not that of the checkpoint');
    if (this.last?.kind !== 'seal') throw new Refused('the checkpoint does not end in a seal');
    if (this.generation !== this.chain.latest.generation) throw new Refused(`the entries end in generation ${this.generation}`);
    if (this.handovers !== this.chain.latest.index) throw new Refused('a link of the authority chain is not in the log');
  }
}

// checkTiles compares every tile with the entries. Partial tiles of smaller
// sizes may stand beside; they must be beginnings of what is there.
async function checkTiles(source, head, leaves) {
  const levels = tileLevels(leaves);
  for (let level = 0; level < levels.length; level++) {
    for (const t of tilesOf(level, head.size)) {
      const want = concat(...levels[level].slice(t.index * 256, t.index * 256 + t.width));
      if (!equal(await must(source, t.path), want)) throw new Refused(`${t.path} does not follow from the entries`);
    }
  }
  for (const name of await source.list('tile')) await checkTileName(source, name, head, levels);
}

async function checkTileName(source, name, head, levels) {
  const m = /^tile\/(entries|[0-9]|[1-5][0-9]|6[0-3])\/((?:x[0-9]{3}\/)*)([0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/.exec(name);
  if (!m) throw new Refused(`${name} is no tile`);
  const index = Number(`${m[2].replaceAll(/[x/]/g, '')}${m[3]}`);
  const width = m[4] === undefined ? 256 : Number(m[4]);
  const row = levels[m[1] === 'entries' ? 0 : Number(m[1])] ?? [];
  if (index * 256 + width > row.length) throw new Refused(`${name} lies beyond the checkpoint`);
  if (m[1] === 'entries') {
    const bundle = await source.read(name);
    for (let i = 0, at = 0; i < width; i++) {
      const { entry, next } = within(name, () => entryAt(bundle, at));
      if (!equal(leafHash(entry), row[index * 256 + i])) throw new Refused(`entry ${index * 256 + i}: ${name} has other bytes`);
      at = next;
    }
  } else if (!equal(await source.read(name), concat(...row.slice(index * 256, index * 256 + width)))) {
    throw new Refused(`${name} does not follow from the entries`);
  }
}

async function checkKeys(source, authority) {
  const { origin, log } = authority;
  const line = async (name) => text(await must(source, name)).replace(/\n$/, '');
  const keys = [logVKey(origin, log), logVKey44(origin, log)];
  if ((await line('log.vkey')) !== keys[0]) throw new Refused("log.vkey is not the log's key");
  if ((await line('log-mldsa44.vkey')) !== keys[1]) throw new Refused("log-mldsa44.vkey is not the log's key");
  const policy = text(await must(source, 'policy'));
  within('policy', () => checkPolicy(policy, keys, authority));
}

// log.vkeys lists the keys that the log has had: exports of before format 3 may
// have none.
async function checkKeyHistory(source, chain) {
  const file = chain.latest.format < 3 ? await source.read('log.vkeys') : await must(source, 'log.vkeys');
  if (!file) return;
  const lines = [];
  for (const { size, authority: { origin, log } } of chain.steps) {
    const keys = `${logVKey(origin, log)} ${logVKey44(origin, log)}`;
    if (!lines.at(-1)?.endsWith(` ${keys}`)) lines.push(`${size} ${keys}`);
  }
  if (text(file) !== lines.map((line) => `${line}\n`).join('')) throw new Refused('log.vkeys: not the keys that the authority chain gives');
}

// checkPolicy: whoever uses the C2SP policy must demand what we demand.
function checkPolicy(policy, keys, { origin, replicas, cosign_threshold: threshold }) {
  const witnesses = new Map(); // vkey: name
  const groups = new Map(); // name: [k, ...members]
  let quorum;
  for (const line of policy.split('\n')) {
    const [word, ...rest] = line.replace(/#.*/, '').trim().split(/[ \t]+/);
    if (word === '') continue;
    else if (word === 'log' && keys.includes(rest[0])) continue;
    else if (word === 'witness') witnesses.set(rest[1], rest[0]);
    else if (word === 'group') groups.set(rest[0], rest.slice(1));
    else if (word === 'quorum' && quorum === undefined) quorum = rest[0];
    else throw new Refused(`unexpected line ${JSON.stringify(line)}`);
  }
  const ours = replicas.filter((r) => !r.joining).map((r) => witnesses.get(cosignerVKey(origin, r)));
  if (ours.includes(undefined)) throw new Refused('a replica is missing among the witnesses');
  const demands = ([k, ...members]) =>
    (k === 'all' ? members.length : k === 'any' ? 1 : Number(k)) === threshold &&
    members.length === ours.length && ours.every((name) => members.includes(name));
  const top = groups.get(quorum);
  if (!top) throw new Refused('no quorum');
  // Witnesses from outside may be demanded besides the replicas.
  if (!demands(top) && !(top[0] === 'all' && top.slice(1).some((g) => groups.has(g) && demands(groups.get(g))))) {
    throw new Refused(`the quorum is not ${threshold} of the ${ours.length} replicas`);
  }
}

/** checkLines compares every byte of entries.jsonl with what the entries give, whose lines have these hashes. */
export async function checkLines(source, { lines }, leaves) {
  let seq = 0;
  for await (const line of source.lines('entries.jsonl')) {
    if (seq === lines.length) throw new Refused(`entries.jsonl: line ${seq + 1} lies beyond the checkpoint`);
    within(`entry ${seq}: entries.jsonl`, () => {
      if (!equal(H(asWritten(line, leaves[seq])), lines[seq])) throw new Refused('its line is not what the tiles hold');
    });
    seq++;
  }
  if (seq !== lines.length) throw new Refused(`entries.jsonl: ${seq} lines for ${lines.length} entries`);
}

// checkProofs verifies the proof files that an export may hold besides.
async function checkProofs(source, genesisHash, chain, leaves) {
  const tree = {
    entryOf: (seq) => entryOf(source, seq, leaves), rootAt: (size) => rootOf(leaves.slice(0, size)), size: leaves.length,
    replicasAt: (size) => chain.at(size).replicas.filter((r) => !r.joining),
  };
  const check = async (kind, file) => {
    if (kind === 'cose') return verifyTransparent(file, tree);
    const shown = verifyProofFile(file, genesisHash, chain);
    if (!shown.entry || !equal(leafHash(shown.entry), leaves[shown.seq] ?? [])) throw new Refused('it is of no entry of this export');
    return shown;
  };
  for (const name of await source.list('proofs')) {
    const [, number, kind] = /^proofs\/(0|[1-9][0-9]{0,15})\.(tlog-proof|cose)$/.exec(name) ?? [];
    if (!kind) throw new Refused(`${name} does not belong in an export`);
    try {
      const { seq } = await check(kind, await must(source, name));
      if (seq !== Number(number)) throw new Refused(`it is of entry ${seq}`);
    } catch (e) {
      within(name, () => { throw e; });
    }
  }
}

// entryOf reads an entry again, whose hash was checked before.
async function entryOf(source, seq, leaves) {
  const tile = tilesOf('entries', leaves.length)[Math.floor(seq / 256)];
  const bundle = await must(source, tile.path);
  let found = { next: 0 };
  for (let i = 0; i <= seq % 256; i++) found = entryAt(bundle, found.next);
  if (!equal(leafHash(found.entry), leaves[seq])) throw new Refused(`${tile.path} changed while it was read`);
  return { leaf: leaves[seq], content: parseEntry(found.entry).content };
}
