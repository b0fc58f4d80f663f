// A small ledger made here, by keys that only these tests use, so that the
// verifier can be tried on what no Go code wrote. Its state has two records:
// the authority and one other.
import { ed25519 } from '@noble/curves/ed25519.js';
import { ml_dsa44, ml_dsa65 } from '@noble/post-quantum/ml-dsa.js';
import { H, base64, base64url, concat, hex, text, u16, u64, utf8 } from '../bytes.js';
import * as canon from '../canon.js';
import * as cbor from '../cbor.js';
import { cosignThreshold } from '../authority.js';
import { cosignerName, cosignerVKey, logVKey, logVKey44 } from '../checkpoint.js';
import { keyID, parseEnvelope } from '../cose.js';
import { encodeEntry, leafHash, parseEntry } from '../entry.js';
import { rootOf, tileLevels, tilesOf } from '../merkle.js';
import { digest, recordHash } from '../trie.js';

const origin = 'ledger.test/made';
const seed = (label) => H(utf8(label));
const deterministic = { extraEntropy: false };
const json = (v) => utf8(canon.encode(v));

function principal(name, operator) {
  const key = ml_dsa65.keygen(seed(name));
  const cosigner = ml_dsa44.keygen(seed(`${name} cosigner`));
  return { name, operator, key, cosigner, public: base64url(key.publicKey) };
}

export const people = Object.fromEntries(
  [['alice', 'north'], ['bob', 'south'], ['carol', 'west'], ['dave', 'north'], ['r1', 'north'], ['r2', 'south'], ['r3', 'west'], ['r4', 'north'], ['r5', 'south'], ['edge-1', 'south']]
    .map(([name, operator]) => [name, principal(name, operator)]),
);
const logKeys = { ed: ed25519.keygen(seed('log')), pq: ml_dsa44.keygen(seed('log44')) };

const member = ({ name, operator, public: key }) => ({ name, operator, public: key });
export const replica = (p) => ({
  cosigner: base64url(p.cosigner.publicKey), name: p.name, operator: p.operator, peer: `${p.name}.test:7000`, public: p.public, tls_pin: base64url(seed(`${p.name} tls`)),
});
const recordReplica = ({ cosigner, name, operator, public: key }) => ({ cosigner, name, operator, public: key });

const actions = [
  'council.change', 'council.reseat', 'epoch.advance', 'format.upgrade', 'ledger.freeze', 'ledger.unfreeze', 'log.rekey',
  'node.admit', 'node.quarantine', 'node.rekey', 'node.release', 'node.remove', 'operator.add', 'operator.remove',
  'policy.change', 'replica.add', 'replica.rekey', 'replica.remove',
];

export class MadeLedger {
  constructor() {
    this.entries = [];
    this.links = [];
    this.council = ['alice', 'bob', 'carol'];
    this.replicas = ['r1', 'r2', 'r3', 'r4'];
    this.stamp = 1_700_000_000_000;
    const rules = Object.fromEntries(actions.map((a) => [a, { delay_millis: 0, threshold: 2 }]));
    this.genesis = {
      council: this.council.map((n) => member(people[n])), created: this.stamp, format: 1,
      log: { ed25519: base64url(logKeys.ed.publicKey), mldsa44: base64url(logKeys.pq.publicKey) },
      operators: ['north', 'south', 'west'].map((name) => ({ name })), origin,
      policy: {
        closed_retention_millis: 1000, epoch_millis: 600000, grace_epochs: 1, key_epochs: 432, max_head_age_millis: 60000, max_skew_millis: 5000,
        proposal_lifetime_millis: 60000, quota: 100, rules, tick_millis: 10000,
      },
      replicas: this.replicas.map((n) => replica(people[n])),
    };
    this.append('genesis', json(this.genesis));
    this.hash = leafHash(this.entries[0]);
    this.links.push(json({ genesis: base64url(this.entries[0]), index: 0 }));
    this.record = {
      causes: [], cosign_threshold: 3, council: this.genesis.council, format: 1, generation: 0, index: 0, ledger: base64url(this.hash), log: this.genesis.log, origin,
      replicas: this.genesis.replicas.map(recordReplica), thresholds: Object.fromEntries(actions.map((a) => [a, 2])),
    };
  }

  get size() {
    return this.entries.length;
  }

  get leaves() {
    return this.entries.map(leafHash);
  }

  append(kind, content) {
    const prev = this.entries.length ? leafHash(this.entries.at(-1)) : new Uint8Array(32);
    this.entries.push(encodeEntry({ seq: this.size, stamp: this.stamp++, prev, kind, content }));
    return this.size - 1;
  }

  state(type, author, body, more = {}) {
    const who = people[author];
    const payload = json({ author, body, generation: 0, ledger: base64url(this.hash), type, ...more });
    const { envelope, id } = sign(who.key, `quorate/${type}.v1`, payload);
    return { seq: this.append('statement', envelope), id };
  }

  nonced(type, author, body) {
    const nonce = base64url(seed(`nonce ${this.size}`).subarray(0, 16));
    return this.state(type, author, body, { nonce, expires: this.stamp + 60000 });
  }

  /** decide proposes, approves and executes; it gives the causes. */
  decide(action, args, ...voters) {
    const [proposer, ...rest] = voters;
    const proposal = this.nonced('propose', proposer, { action, args, base: {} });
    const causes = [proposal.seq, ...rest.map((v) => this.state('approve', v, { proposal: base64url(proposal.id) }).seq)];
    const body = { action, proposal: base64url(proposal.id) };
    this.append('effect', json({ body, causes, type: 'decision' }));
    this.append('effect', json({ body, causes, type: 'executed' }));
    return causes;
  }

  stateRecords() {
    return [['authority', json(this.record)], ['meta', json({ size: 1 })]];
  }

  seal(reason = 'routine', extra = {}) {
    return this.append('seal', json({ digest: base64url(digest(this.stateRecords())), epoch: 0, reason, ...extra }));
  }

  /** handover changes the record, seals it and makes the link. */
  handover(change, causes, signers) {
    const before = this.replicas;
    this.record = { ...this.record, ...change, causes, index: this.record.index + 1 };
    const active = this.record.replicas.filter((r) => !r.joining);
    this.replicas = active.map((r) => r.name);
    this.record.cosign_threshold = cosignThreshold(active.length);
    const seq = this.seal('handover', { handover: this.record.index });
    const statements = causes.map((c) => ({ entry: base64url(this.entries[c]), proof: this.prove(c), seq: c }));
    this.links.push(json({
      checkpoint: this.checkpoint(signers ?? [...new Set([...before, ...this.replicas])]), index: this.record.index, record: this.record,
      record_proof: this.proveRecord('authority'), seal: base64url(this.entries[seq]), seal_proof: this.prove(seq), statements,
    }));
  }

  prove(seq) {
    return inclusion(this.leaves, seq).map(base64url);
  }

  proveRecord(key) {
    const others = this.stateRecords().filter(([k]) => k !== key);
    const nibbles = (k) => hex(H(utf8(k)));
    const [[other, value]] = others;
    const siblings = [];
    for (let d = 0; ; d++) {
      const [mine, theirs] = [nibbles(key)[d], nibbles(other)[d]];
      if (mine === theirs) {
        siblings.push({ bitmap: 0, hashes: [] });
        continue;
      }
      siblings.push({ bitmap: 1 << (15 - parseInt(theirs, 16)), hashes: [base64url(recordHash(other, H(value)))] });
      return { key, siblings };
    }
  }

  checkpoint(signers = this.replicas, time = 1_700_000_100) {
    const head = { size: this.size, root: rootOf(this.leaves) };
    const body = `${origin}\n${head.size}\n${base64(head.root)}\n`;
    const line = (name, kind, key, signature) => `\u2014 ${name} ${base64(concat(H(name, 0x0a, kind, key).subarray(0, 4), signature))}\n`;
    const message = (label, name) => concat(label, name.length, name, u64(time), origin.length, origin, u64(0), u64(head.size), head.root);
    const timed = (signature) => concat(u64(time), signature);
    let note = `${body}\n`;
    note += line(origin, 1, logKeys.ed.publicKey, ed25519.sign(utf8(body), logKeys.ed.secretKey));
    note += line(origin, 6, logKeys.pq.publicKey, timed(ml_dsa44.sign(message('subtree/v1\n\0', origin), logKeys.pq.secretKey, deterministic)));
    for (const n of [...signers].sort()) {
      const p = people[n];
      const name = cosignerName(origin, n);
      note += line(name, 6, p.cosigner.publicKey, timed(ml_dsa44.sign(message('subtree/v1\n\0', name), p.cosigner.secretKey, deterministic)));
      const id = 'quorate/cosignature/v1';
      note += line(name, 0xff, concat(id, p.key.publicKey), timed(ml_dsa65.sign(message(concat(`${id}\n\0`, this.hash), name), p.key.secretKey, deterministic)));
    }
    return note;
  }

  /** export gives the files of an export: name to bytes. */
  export() {
    const log = { ed25519: logKeys.ed.publicKey, mldsa44: logKeys.pq.publicKey };
    const files = new Map([
      ['checkpoint', utf8(this.checkpoint())], ['genesis.cbor', this.entries[0]],
      ['log.vkey', utf8(`${logVKey(origin, log)}\n`)], ['log-mldsa44.vkey', utf8(`${logVKey44(origin, log)}\n`)],
    ]);
    this.links.forEach((l, i) => files.set(`authority/${i}.json`, l));
    const witness = (n) => `witness replica/${n} ${cosignerVKey(origin, { name: n, cosigner: people[n].cosigner.publicKey })}`;
    files.set('policy', utf8([
      `log ${logVKey(origin, log)}`, ...this.replicas.map(witness),
      `group replicas ${this.record.cosign_threshold} ${this.replicas.map((n) => `replica/${n}`).join(' ')}`, 'quorum replicas', '',
    ].join('\n')));
    const levels = tileLevels(this.leaves);
    levels.forEach((row, level) => {
      for (const t of tilesOf(level, this.size)) files.set(t.path, concat(...row.slice(t.index * 256, t.index * 256 + t.width)));
    });
    for (const t of tilesOf('entries', this.size)) {
      files.set(t.path, concat(...this.entries.slice(t.index * 256, t.index * 256 + t.width).flatMap((e) => [u16(e.length), e])));
    }
    files.set('entries.jsonl', concat(...this.entries.map((e) => this.line(e))));
    return files;
  }

  line(entry) {
    const { seq, stamp, kind, content } = parseEntry(entry);
    const said = kind === 'statement' && parseEnvelope(content);
    const view = said ? `{"id":"${hex(said.id)}","key":"${hex(said.kid)}","payload":${text(said.raw)}}` : text(content);
    return utf8(`{"bytes":${entry.length},"hash":"${hex(leafHash(entry))}","kind":"${kind}","seq":${seq},"stamp":${stamp},"view":${view}}\n`);
  }
}

export function sign(key, typ, payload) {
  const header = concat(Uint8Array.of(0xa3, 0x01, 0x38, 0x30, 0x04), cbor.byteString(keyID(key.publicKey)), 0x10, cbor.textString(typ));
  const signed = concat(0x84, cbor.textString('Signature1'), cbor.byteString(header), 0x40, cbor.byteString(payload));
  const signature = ml_dsa65.sign(signed, key.secretKey, deterministic);
  const envelope = concat(0xd2, 0x84, cbor.byteString(header), 0xa0, cbor.byteString(payload), 0x59, 0x0c, 0xed, signature);
  return { envelope, id: H(signed) };
}

/** inclusion is the RFC 6962 audit path, as that text defines it. */
export function inclusion(leaves, m) {
  if (leaves.length === 1) return [];
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return m < k
    ? [...inclusion(leaves.slice(0, k), m), rootOf(leaves.slice(k))]
    : [...inclusion(leaves.slice(k), m - k), rootOf(leaves.slice(0, k))];
}

/** consistency is SUBPROOF of RFC 6962 section 2.1.2, from the first m leaves to all. */
export function consistency(leaves, m, whole = true) {
  if (m === leaves.length) return whole ? [] : [rootOf(leaves)];
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return m <= k
    ? [...consistency(leaves.slice(0, k), m, whole), rootOf(leaves.slice(k))]
    : [...consistency(leaves.slice(k), m - k, false), rootOf(leaves.slice(0, k))];
}

/** source serves files as export.js wants them. */
export function source(files) {
  return {
    read: async (name) => files.get(name),
    list: async (folder) => [...files.keys()].filter((n) => folder === '' || n.startsWith(`${folder}/`)).sort(),
    async *lines(name) {
      const all = files.get(name) ?? new Uint8Array();
      for (let at = 0, end; at < all.length; at = end) {
        end = all.indexOf(0x0a, at) + 1 || all.length;
        yield all.subarray(at, end);
      }
    },
  };
}

export const recordReplicaOf = (p, joining) => ({ ...recordReplica(replica(p)), ...(joining && { joining }) });
export const memberOf = member;
