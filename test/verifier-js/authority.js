// The authority chain: FORMAT.md section 10. Who decides and who certifies,
// followed from the genesis hash alone.
import { Refused, base64url, equal, hex, utf8, within } from './bytes.js';
import * as canon from './canon.js';
import { parseCheckpoint, verifyCheckpoint } from './checkpoint.js';
import { keyID, parseStatement, verifySignature } from './cose.js';
import { verifyPossession } from './rotation.js';
import { leafHash, parseEntry, seal } from './entry.js';
import { checkPolicy, cosignerBytes, logShape, maxCouncil, maxReplicas, memberShape, parseGenesis, policyShape, publicKey, recoveryShape, replicaShape } from './genesis.js';
import { verifyConsistency, verifyInclusion } from './merkle.js';
import { any, anyObject, bool, bytes, list, map, maybe, name, object, optional, sorted, string, uint } from './shape.js';
import { parseProof, verifyProof } from './trie.js';

const maxLinkBytes = 4 << 20;
const maxMemoBytes = 4096;
const maxRecoverMillis = 30 * 24 * 3_600_000;

/** recordShape is the shape of the state record "authority". */
export const recordShape = object({
  causes: list(uint), council: sorted(object({ name, operator: name, public: publicKey })), cosign_threshold: uint, format: uint,
  generation: uint, index: uint, ledger: bytes(32), log: logShape, origin: string, recovery: optional(recoveryShape),
  replicas: sorted(object({ cosigner: bytes(cosignerBytes), joining: optional(bool), name, operator: name, public: publicKey })),
  thresholds: map(uint),
});
const firstLinkShape = object({ genesis: bytes(), index: uint });
const linkShape = object({
  checkpoint: string, index: uint, record: any, record_proof: anyObject, seal: bytes(), seal_proof: list(bytes(32)),
  statements: list(object({ entry: bytes(), proof: list(bytes(32)), seq: uint })),
  fork: optional(object({ checkpoint: string, proof: list(bytes(32)) })),
});

/** cosignThreshold of n active replicas, of which f = floor((n-1)/3) may lie. */
export function cosignThreshold(n) {
  const f = Math.floor((n - 1) / 3);
  return Math.floor((n + f) / 2) + 1;
}

// Records are kept as raw JSON, of which the canonical text is compared, and
// read through recordShape, which gives their keys as bytes.
const memberOf = (m) => ({ name: m.name, operator: m.operator, public: m.public });
const replicaOf = (r, joining) => ({ cosigner: r.cosigner, name: r.name, operator: r.operator, public: r.public, ...(joining && { joining }) });
const thresholdsOf = (policy) => Object.fromEntries(Object.entries(policy.rules).map(([action, rule]) => [action, rule.threshold]));
const byName = (items) => items.sort((a, b) => (a.name < b.name ? -1 : 1));

function genesisRecord({ raw }, genesisHash) {
  return {
    causes: [], council: raw.council.map(memberOf), cosign_threshold: cosignThreshold(raw.replicas.length), format: raw.format,
    generation: 0, index: 0, ledger: base64url(genesisHash), log: raw.log, origin: raw.origin, ...(raw.recovery && { recovery: raw.recovery }),
    replicas: raw.replicas.map((r) => replicaOf(r)), thresholds: thresholdsOf(raw.policy),
  };
}

/** Chain follows links from the genesis hash, its only trust. */
export class Chain {
  constructor(genesisHash, firstLink) {
    this.genesisHash = genesisHash;
    const link = readLink(firstLink, firstLinkShape);
    if (link.index !== 0) throw new Refused('the first link is not link 0');
    this.genesisEntry = link.genesis;
    this.genesis = parseGenesis(link.genesis, genesisHash);
    const record = genesisRecord(this.genesis, genesisHash);
    // Each step has the size from which on its authority certifies.
    this.steps = [{ size: 1, record, authority: recordShape(record), statements: [] }];
    this.causes = new Set();
  }

  /** latest is the authority record of the last link. */
  get latest() {
    return this.steps.at(-1).authority;
  }

  /** at is the authority record in force at a size. */
  at(size) {
    return this.steps[this.indexAt(size)].authority;
  }

  indexAt(size) {
    return Math.max(this.steps.findLastIndex((s) => s.size <= size), 0);
  }

  /**
   * certify demands that those who have authority over a head's size certify
   * it: of a handover the authority before, too. It gives the authority, the
   * cosigners and when they last signed.
   */
  certify(head) {
    const at = this.indexAt(head.size);
    const step = this.steps[at];
    const fork = this.steps[at + 1]?.fork;
    if (fork && head.size > fork.size) throw new Refused(`checkpoint: of the branch that was left at size ${fork.size}`);
    if (step.root && step.size === head.size) {
      if (!equal(step.root, head.root)) throw new Refused('checkpoint: another root than that of the handover of its size');
      if (!step.fork) within('under the authority before', () => verifyCheckpoint(head, this.steps[at - 1].authority));
    }
    return { authority: step.authority, ...verifyCheckpoint(head, step.authority) };
  }

  /** extend accepts the next link or throws. */
  extend(bytes) {
    const link = readLink(bytes, linkShape);
    const last = this.steps.at(-1);
    if (link.index !== last.authority.index + 1) throw new Refused(`link ${link.index} after link ${last.authority.index}`);
    const head = parseCheckpoint(utf8(link.checkpoint));
    if (head.size <= last.size) throw new Refused('the handover is not after the one before');
    const authority = within('record', () => recordShape(link.record));
    const statements = this.statements(link, head, last.authority);
    const opens = statements[0]?.type === 'recover';
    if (opens !== (link.fork !== undefined)) throw new Refused('fork: there is one exactly if a generation is opened');
    const fork = opens ? within('fork', () => this.forked(link, head, last, statements[0])) : undefined;
    this.certified(link, head, opens ? undefined : last.authority, authority);
    const record = follow(last, statements);
    record.index = link.index;
    record.causes = link.statements.map((s) => s.seq);
    if (canon.encode(record) !== canon.encode(link.record)) throw new Refused('record: is not what the statements make of the one before');
    const again = record.causes.find((seq) => this.causes.has(seq));
    if (again !== undefined) throw new Refused(`entry ${again} was a cause before`);
    for (const seq of record.causes) this.causes.add(seq);
    this.steps.push({ size: head.size, root: head.root, record, authority, seal: link.seal, statements: link.statements, fork });
  }

  // A link that opens a generation goes on from a head that those before had
  // certified, and that its recover statement names (section 15).
  forked(link, head, last, { body }) {
    const fork = parseCheckpoint(utf8(link.fork.checkpoint));
    if (fork.size !== body.head.size || !equal(fork.root, body.head.root)) throw new Refused('not the head that the recovery names');
    verifyCheckpoint(fork, last.authority);
    if (last.root && (fork.size < last.size || (fork.size === last.size && !equal(fork.root, last.root)))) {
      throw new Refused(`size ${fork.size} is not on the branch of the handover before, of size ${last.size}`);
    }
    verifyConsistency(link.fork.proof, fork.size, fork.root, head.size, head.root);
    if (!equal(parseEntry(link.statements[0].entry).prev, body.head.last)) throw new Refused('another last entry than the recovery names');
    link.statements.forEach((s, i) => {
      if (s.seq !== body.head.size + i) throw new Refused(`statement ${s.seq} does not follow the head at once`);
    });
    return { size: fork.size, root: fork.root };
  }

  // The record stands in the state under a seal that both authorities certify.
  certified(link, head, prev, authority) {
    if (prev) within('under the authority before', () => verifyCheckpoint(head, prev));
    within('under the new authority', () => verifyCheckpoint(head, authority));
    const entry = parseEntry(link.seal);
    const { handover, digest } = seal(entry);
    if (handover !== link.index) throw new Refused(`the seal is of handover ${handover}`);
    if (entry.seq !== head.size - 1) throw new Refused('the checkpoint does not end in the seal');
    within('seal', () => verifyInclusion(link.seal_proof, entry.seq, head.size, leafHash(link.seal), head.root));
    const proof = parseProof(link.record_proof);
    if (proof.key !== 'authority' || proof.value !== undefined) throw new Refused('record_proof is of another record, or has a value');
    verifyProof(proof, digest, utf8(canon.encode(link.record)));
  }

  // The statements that caused the change, as they stand under the checkpoint.
  statements(link, head, prev) {
    return link.statements.map((s, i) => within(`statements[${i}]`, () => {
      if (i > 0 && s.seq <= link.statements[i - 1].seq) throw new Refused('seqs do not rise');
      const entry = parseEntry(s.entry);
      if (entry.kind !== 'statement' || entry.seq !== s.seq) throw new Refused('not the statement of that seq');
      verifyInclusion(s.proof, s.seq, head.size, leafHash(s.entry), head.root);
      const statement = parseStatement(entry.content);
      if (!equal(statement.ledger, this.genesisHash)) throw new Refused('of another ledger');
      if (statement.generation !== prev.generation) throw new Refused('of another generation');
      return statement;
    }));
  }
}

/** walk follows the links of a proof file, as decoded JSON, from link 0. */
export function walk(links, genesisHash) {
  const encoded = links.map((l) => utf8(canon.encode(l)));
  const chain = within('authority 0', () => new Chain(genesisHash, encoded[0]));
  encoded.slice(1).forEach((l, i) => within(`authority ${i + 1}`, () => chain.extend(l)));
  return chain;
}

function readLink(bytes, shape) {
  if (bytes.length > maxLinkBytes) throw new Refused(`link of ${bytes.length} bytes`);
  return shape(canon.decode(bytes));
}

// follow gives the record after one authorised change.
function follow({ record, authority }, statements) {
  const [first, ...rest] = statements;
  let changed;
  if (first?.type === 'ready' && rest.length === 0) changed = ready(record, authority, first);
  else if (first?.type === 'key.rotate' && rest.length === 0) changed = rotated(record, authority, first);
  else if (first?.type === 'propose') changed = decided(record, authority, first, rest);
  else if (first?.type === 'recover') changed = recovered(record, authority, first, rest);
  else throw new Refused('statements: neither one ready or key.rotate nor a proposal or recovery with approvals');
  const next = { ...record, ...changed };
  if (canon.encode(next) === canon.encode(record)) throw new Refused('the statements change nothing');
  const active = next.replicas.filter((r) => !r.joining).length;
  if (active < 1 || next.replicas.length > maxReplicas) throw new Refused(`${next.replicas.length} replicas, ${active} active`);
  if (next.council.length < 1 || next.council.length > maxCouncil) throw new Refused(`council of ${next.council.length}`);
  const seats = [...next.council, ...next.replicas];
  if (new Set(seats.map((s) => s.public)).size !== seats.length) throw new Refused('a key has two seats');
  next.cosign_threshold = cosignThreshold(active);
  return next;
}

function ready(record, authority, statement) {
  const who = holder(statement, authority.replicas.filter((r) => r.joining));
  if (!who) throw new Refused(`${statement.author} is not joining`);
  verifySignature(statement, who.public);
  return { replicas: record.replicas.map((r) => (r.name === who.name ? replicaOf(r) : r)) };
}

// rotated gives what a replica's own rotation makes of a record: its new keys stand
// in the place of the old, and nothing else changes. Who signs has both.
function rotated(record, authority, statement) {
  if (record.format < 3) throw new Refused(`a key.rotate in format ${record.format}`);
  const who = holder(statement, authority.replicas.filter((r) => !r.joining));
  if (!who) throw new Refused(`${statement.author} is no active replica with this key`);
  verifySignature(statement, who.public);
  verifyPossession(authority, statement);
  const { cosigner, public: key } = statement.body;
  const next = { cosigner: base64url(cosigner), name: who.name, operator: who.operator, public: base64url(key) };
  return { replicas: record.replicas.map((r) => (r.name === who.name ? next : r)) };
}

const holder = (statement, people) => people.find((p) => p.name === statement.author && equal(keyID(p.public), statement.kid));

function decided(record, authority, proposal, approvals) {
  const { action, args } = proposal.body;
  const change = changes[action];
  if (!change) throw new Refused(`${action} changes no authority`);
  const changed = within(action, () => change(record, args));
  voted(action, authority, changed, proposal, approvals);
  return changed;
}

// recovered gives what a recovery makes of a record: those that stay, and those
// that join. As many as change the council decide it.
function recovered(record, authority, statement, approvals) {
  const { at, generation, head, keep, memo = '', new: fresh = [], until } = statement.body;
  if (head.size < 2 || utf8(memo).length > maxMemoBytes) throw new Refused('a head without a seal, or a memo that is too long');
  if (until !== undefined && (until <= at || until - at > maxRecoverMillis)) throw new Refused('until: not after at, or by more than 30 days');
  if (generation !== record.generation + 1) throw new Refused(`opens generation ${generation} after ${record.generation}`);
  const rising = (names) => names.every((n, i) => i === 0 || names[i - 1] < n);
  if (!rising(keep) || !rising(fresh.map((r) => r.name)) || fresh.some((r) => keep.includes(r.name))) {
    throw new Refused('keep and new: not by name, or not distinct');
  }
  fresh.forEach((r) => replicaShape(r));
  const stay = record.replicas.filter((r) => keep.includes(r.name));
  if (keep.length === 0 || stay.length !== keep.length) throw new Refused('keep: nobody, or a replica that is not there');
  if (fresh.some((r) => record.replicas.some((old) => old.public === r.public))) throw new Refused('new: the key of a replica of before');
  const changed = { generation, replicas: fresh.map((r) => replicaOf(r, true)).reduce(withNew, stay) };
  voted('council.change', authority, changed, statement, approvals);
  return changed;
}

// voted demands that enough distinct voices approve.
function voted(action, authority, changed, proposal, approvals) {
  const reseat = action === 'council.reseat';
  if (reseat && !authority.recovery) throw new Refused('there is no recovery set');
  const voters = reseat ? authority.recovery.holders : authority.council;
  const authors = new Set();
  const voices = new Set();
  for (const s of [proposal, ...approvals]) {
    if (s !== proposal && !(s.type === 'approve' && equal(s.body.proposal, proposal.id))) {
      throw new Refused(`the ${s.type} of ${s.author} is no approval of ${hex(proposal.id)}`);
    }
    if (authors.has(s.author)) throw new Refused(`two voices of ${s.author}`);
    authors.add(s.author);
    const who = holder(s, voters);
    if (!who) throw new Refused(`${s.author} has no vote`);
    within(`${s.type} of ${s.author}`, () => verifySignature(s, who.public));
    voices.add(reseat ? who.name : who.operator);
  }
  for (const want of reseat ? [authority.recovery.threshold] : wanted(action, authority, changed)) {
    if (!(want >= 1 && voices.size >= want)) throw new Refused(`${action} has ${voices.size} of ${want} approvals`);
  }
}

// No threshold that changes authority counts for less than a majority of the
// operators, and a change of policy needs the strictest of the old rule, the
// new one, and those whose threshold it lowers; one that is gone counts as 0.
export function wanted(action, { council, thresholds }, changed) {
  const operators = new Set(council.map((m) => m.operator)).size;
  const wants = [thresholds[action], Math.floor(operators / 2) + 1];
  if (action === 'policy.change') {
    wants.push(changed.thresholds[action]);
    for (const [other, old] of Object.entries(thresholds)) {
      if (other !== 'council.reseat' && (changed.thresholds[other] ?? 0) < old) wants.push(old);
    }
  }
  return wants;
}

const replicaArgs = object({ replica: replicaShape });
const rekeyArgs = (record) => (record.format < 3 ? replicaArgs : object({ from: maybe(uint), replica: replicaShape }));

function without(items, holder) {
  if (!items.some((i) => i.name === holder)) throw new Refused(`${holder} is not there`);
  return items.filter((i) => i.name !== holder);
}

function withNew(items, item) {
  if (items.some((i) => i.name === item.name)) throw new Refused(`${item.name} is there already`);
  return byName([...items, item]);
}

// What each action makes of a record; args are raw JSON, checked here.
const changes = {
  'council.change'(record, args) {
    object({ add: optional(list(memberShape)), remove: optional(list(name)) })(args);
    const left = (args.remove ?? []).reduce(without, record.council);
    return { council: (args.add ?? []).map(memberOf).reduce(withNew, left) };
  },
  'council.reseat'(record, args) {
    object({ council: list(memberShape) })(args);
    return { council: args.council.map(memberOf).reduce(withNew, []) };
  },
  'policy.change'(record, args) {
    checkPolicy(object({ policy: policyShape })(args).policy, record.council, record.format);
    return { thresholds: thresholdsOf(args.policy) };
  },
  'replica.add'(record, args) {
    replicaArgs(args);
    return { replicas: withNew(record.replicas, replicaOf(args.replica, true)) };
  },
  'replica.rekey'(record, args) {
    rekeyArgs(record)(args);
    return { replicas: withNew(without(record.replicas, args.replica.name), replicaOf(args.replica, true)) };
  },
  'replica.remove'(record, args) {
    object({ cause: optional(bool), ...(record.format < 3 ? {} : { from: maybe(uint) }), name })(args);
    return { replicas: without(record.replicas, args.name) };
  },
  'format.upgrade'(record, args) {
    object({ format: uint })(args);
    if (args.format <= record.format) throw new Refused('not upwards');
    return { format: args.format };
  },
  'log.rekey'(record, args) {
    logShape(args);
    return { log: { ed25519: args.ed25519, mldsa44: args.mldsa44 } };
  },
};
