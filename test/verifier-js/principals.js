// Who holds which key at each point of the log: from genesis on, changed by
// executed decisions. This is a part of the replay, not the whole: it knows who
// may speak, not whether what was decided had to be.
import { Refused, equal, hex } from './bytes.js';
import { memberShape, policyShape, replicaShape } from './genesis.js';
import { keyID, verifySignature } from './cose.js';
import { verifyPossession } from './rotation.js';
import { bool, bytes, list, maybe, name, object, optional, string, uint } from './shape.js';

const speakers = {
  propose: ['governor', 'recovery'],
  approve: ['governor', 'recovery'],
  reject: ['governor', 'recovery'],
  withdraw: ['governor', 'recovery'],
  veto: ['governor', 'recovery'],
  record: ['governor', 'replica', 'node'],
  ready: ['replica'],
  observe: ['node'],
  attest: ['node'],
  evidence: ['governor', 'replica', 'node'],
  recover: ['governor'],
  'key.rotate': ['node', 'replica'],
  backup: ['governor', 'node'],
  'restore.test': ['governor', 'node'],
  'key.destroy': ['governor', 'node', 'replica'],
};

const args = {
  'council.change': object({ add: optional(list(memberShape)), remove: optional(list(name)) }),
  'council.reseat': object({ council: list(memberShape) }),
  'replica.add': object({ replica: replicaShape }),
  'replica.rekey': object({ from: maybe(uint), replica: replicaShape }),
  'replica.remove': object({ cause: optional(bool), from: maybe(uint), name }),
  'node.admit': object({ joins: list(bytes(32), { max: 300 }) }),
  'node.rekey': object({ from: maybe(uint), join: bytes(32) }),
  'node.remove': object({ from: maybe(uint), name }),
  'key.revoke': object({ from: uint, key: bytes(32), reason: string }),
  'policy.change': object({ policy: policyShape }),
  'format.upgrade': object({ format: uint }),
};

const executedShape = object({ action: string, due_at: optional(uint), proposal: bytes(32), reason: optional(string) });

const epochShape = object({ count: optional(uint), epoch: uint, keys: bytes(32), rotated: optional(uint), start: uint });

export class Principals {
  constructor(genesis) {
    this.byKey = new Map(); // hex key id: {name, role, public, active}; of a node also from and to, epochs
    this.nodes = new Map(); // name: {key, next}, hex key ids
    this.epoch = 0;
    this.format = genesis.format;
    this.policy = genesis.policy;
    this.proposals = new Map(); // hex id: {action, args}
    this.joins = new Map(); // hex id: {name, public}
    for (const m of genesis.council) this.seat('governor', m);
    for (const r of genesis.replicas) this.seat('replica', r);
    for (const h of genesis.recovery?.holders ?? []) this.seat('recovery', h);
  }

  // A key has one role and one holder for ever.
  seat(role, { name: holder, public: key }) {
    const id = hex(keyID(key));
    if (this.byKey.has(id)) throw new Refused(`the key of ${role} ${holder} was used before`);
    this.byKey.set(id, { name: holder, role, public: key, active: true, first: this.format < 3 ? 0 : this.epoch });
  }

  // A node's key speaks from the epoch of its admission on.
  seatNode({ name: holder, public: key }) {
    this.seat('node', { name: holder, public: key });
    const id = hex(keyID(key));
    Object.assign(this.byKey.get(id), { from: this.epoch, to: this.epoch + this.policy.key_epochs });
    this.nodes.set(holder, { key: id });
  }

  // A holder leaves, or gets a key by decision: nothing under its keys is taken any more. The one in force is revoked
  // from an epoch on; of a replica also those before it, back over rotations accepted from a named epoch on.
  unseat(role, holder, from) {
    const held = [...this.byKey.values()].filter((p) => p.role === role && p.name === holder);
    let who = role === 'node' ? this.byKey.get(this.nodes.get(holder)?.key) : held.find((p) => p.active && !p.rotated);
    for (const p of held) p.active = false;
    if (!who) return;
    this.end(who, role === 'node' ? from ?? this.epoch : Math.max(from ?? this.epoch, who.first));
    if (role === 'node') this.end(this.byKey.get(this.nodes.get(holder).next));
    while (role === 'replica' && from !== undefined && who.said >= from) {
      who = this.byKey.get(who.previous);
      this.end(who, Math.max(from, who.first));
    }
  }

  // end revokes a key from an epoch on, or from its own first.
  end(who, from = who?.from) {
    if (!who) return;
    who.active = false;
    who.revokedFrom = Math.min(from, who.revokedFrom ?? Infinity);
    who.ended ??= this.epoch;
  }

  /** wordAt says what a signature under a key is worth now whose statement names that epoch, or none. */
  wordAt(key, epoch) {
    const who = this.byKey.get(hex(key));
    if (!who) return 'unknown';
    if (epoch === undefined) return 'no_epoch';
    if (who.revokedFrom <= epoch) return 'disputed';
    if (who.role !== 'node' && !who.rotated && who.revokedFrom === undefined) return 'holds';
    if (epoch < (who.role === 'node' ? who.from : who.first)) return 'not_yet';
    return epoch > this.lastEpoch(who) ? 'expired' : 'holds';
  }

  // lastEpoch is the last one in which a key is heard. A node's key without a successor has the grace epochs.
  lastEpoch({ role, rotated, from, to = Infinity, ended = Infinity }) {
    if (rotated) return to;
    if (role !== 'node') return ended;
    if (to === Infinity && ended === Infinity) return from + this.policy.key_epochs; // announced, and not in force yet
    return Math.min(to, ended) + this.policy.grace_epochs;
  }

  /** accept checks a statement's signature under the key that its author holds now. */
  accept(statement) {
    if (statement.type === 'join') {
      verifySignature(statement, statement.body.public);
      this.joins.set(hex(statement.id), statement.body);
      return;
    }
    const who = this.byKey.get(hex(statement.kid));
    if (!who) throw new Refused(`key ${hex(statement.kid)} of ${statement.author} is unknown`);
    if (!who.active) throw new Refused(`key ${hex(statement.kid)} of ${who.name} is no longer its key`);
    if (who.name !== statement.author) throw new Refused(`the key is ${who.name}'s, the author ${statement.author}`);
    if (!speakers[statement.type].includes(who.role)) throw new Refused(`a ${who.role} makes no ${statement.type}`);
    this.inRange(statement, who);
    verifySignature(statement, who.public);
    if (statement.type === 'key.rotate') this.rotate(statement, who);
    if (statement.type === 'propose') this.proposals.set(hex(statement.id), statement.body);
    if (statement.type === 'recover') this.proposals.set(hex(statement.id), { action: 'recover', args: statement.body });
  }

  // A key that was rotated out speaks for its epochs only; one without a successor is heard for the grace epochs too. A
  // replica's speaks in no epoch before it came.
  inRange({ epoch, kid, type }, who) {
    if (epoch === undefined) return;
    if (who.role === 'replica' && epoch < who.first) throw new Refused(`key ${hex(kid)} of ${who.name} speaks from epoch ${who.first} on, not in ${epoch}`);
    if (who.to === undefined) return;
    const last = who.rotated || type === 'key.rotate' ? who.to : who.to + this.policy.grace_epochs;
    if (epoch < who.from || epoch > last) throw new Refused(`key ${hex(kid)} of ${who.name} speaks from epoch ${who.from} to ${last}, not in ${epoch}`);
  }

  rotate(statement, who) {
    if (this.format < 3) throw new Refused(`a key.rotate in format ${this.format}`);
    verifyPossession(statement, statement, who.role);
    const key = statement.body.public;
    this.seat(who.role, { name: who.name, public: key });
    const [old, next] = [hex(statement.kid), hex(keyID(key))];
    const seated = this.byKey.get(next);
    Object.assign(seated, { said: this.epoch, previous: old });
    who.next = next;
    if (who.role === 'replica') { // at once
      Object.assign(who, { from: 0, to: this.epoch, rotated: true });
      return;
    }
    const node = this.nodes.get(who.name);
    if (node.key !== old || node.next) throw new Refused(`${who.name} rotates a key that is not in force, or twice`);
    node.next = next;
    // It speaks two epochs later, or when the old one does not any more; its end is counted from then.
    Object.assign(seated, { from: Math.min(this.epoch + 2, who.to + 1), to: Infinity });
  }

  /** begins enters an epoch, in which announced keys take effect. */
  begins(epoch) {
    const passed = this.format < 3 ? 0 : Math.max(epoch - this.epoch - 1, 0);
    for (const [holder, node] of this.nodes) {
      const who = this.byKey.get(node.key);
      if (who.from <= this.epoch && this.epoch <= who.to) who.to += passed; // nobody could speak in them
      const next = this.byKey.get(node.next);
      if (!next || next.from > epoch) continue;
      if (who.active) Object.assign(who, { to: next.from - 1, rotated: true });
      next.to = epoch + this.policy.key_epochs;
      this.nodes.set(holder, { key: node.next });
    }
    this.epoch = epoch;
  }

  // revoke ends a key, and those that followed it by rotations accepted in that epoch or later.
  revoke(key, from) {
    let who = this.byKey.get(hex(key));
    if (who?.role !== 'node') throw new Refused(`key ${hex(key)} is no node's`);
    this.end(who, from);
    for (who = this.byKey.get(who.next); who && who.said >= from; who = this.byKey.get(who.next)) this.end(who);
    for (const node of this.nodes.values()) if (node.next && !this.byKey.get(node.next).active) delete node.next;
  }

  /** happened applies what an effect changes about who holds which key, and gives the generation that it opened, if it did. */
  happened({ type, body }) {
    if (type === 'epoch') this.begins(epochShape(body).epoch);
    if (type !== 'executed') return undefined;
    const { action, proposal } = executedShape(body);
    return this.executed(action, proposal);
  }

  /** executed applies what a decision changed about who holds which key, and gives the generation that it opened, if it did. */
  executed(action, proposalID) {
    const proposal = this.proposals.get(hex(proposalID));
    if (proposal && action === 'recover' && proposal.action === action) return this.recovered(proposal.args);
    if (!proposal || proposal.action !== action) throw new Refused(`executes ${action}, which was not proposed as ${hex(proposalID)}`);
    const shape = args[action];
    if (!shape) return;
    const a = shape(proposal.args);
    switch (action) {
      case 'council.change':
        this.changeCouncil(a.remove ?? [], a.add ?? []);
        return;
      case 'council.reseat':
        this.reseat(a.council);
        return;
      case 'replica.remove':
        this.unseat('replica', a.name, a.from);
        return;
      case 'replica.rekey':
        this.unseat('replica', a.replica.name, a.from);
        this.seat('replica', a.replica);
        return;
      case 'replica.add':
        this.seat('replica', a.replica);
        return;
      case 'node.remove':
        this.unseat('node', a.name, a.from);
        this.nodes.delete(a.name);
        return;
      case 'key.revoke':
        this.revoke(a.key, a.from);
        return;
      case 'policy.change':
        this.policy = a.policy;
        return;
      case 'format.upgrade':
        this.format = a.format;
        return;
      case 'node.rekey':
        this.admit(a.join, true, a.from);
        return;
      case 'node.admit':
        for (const id of a.joins) this.admit(id, false);
    }
  }

  // Replicas that a recovery does not keep lose their keys.
  recovered({ generation, keep, new: fresh = [] }) {
    for (const { role, name: holder, active } of [...this.byKey.values()]) if (role === 'replica' && active && !keep.includes(holder)) this.unseat('replica', holder);
    for (const r of fresh) this.seat('replica', replicaShape(r));
    return generation;
  }

  // A governor who leaves and comes back in one decision may keep the key.
  changeCouncil(leaving, coming) {
    const held = (m) => this.byKey.get(hex(keyID(m.public)));
    const again = coming.filter((m) => leaving.includes(m.name) && held(m)?.active && held(m).role === 'governor' && held(m).name === m.name);
    for (const holder of leaving) if (!again.some((m) => m.name === holder)) this.unseat('governor', holder);
    for (const m of coming) if (!again.includes(m)) this.seat('governor', m);
  }

  // A governor who keeps a seat keeps the key.
  reseat(council) {
    for (const p of this.byKey.values()) {
      if (p.role === 'governor' && p.active && !council.some((m) => m.name === p.name && equal(m.public, p.public))) this.end(p, this.epoch);
    }
    for (const m of council) if (!this.byKey.get(hex(keyID(m.public)))?.active) this.seat('governor', m);
  }

  admit(joinID, rekey, from) {
    const join = this.joins.get(hex(joinID));
    if (!join) throw new Refused(`join ${hex(joinID)} is not on the ledger`);
    if (rekey) this.unseat('node', join.name, from);
    this.seatNode(join);
  }
}
