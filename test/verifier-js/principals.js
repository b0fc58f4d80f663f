// Who holds which key at each point of the log: from genesis on, changed by
// executed decisions. This is a part of the replay, not the whole: it knows who
// may speak, not whether what was decided had to be.
import { Refused, equal, hex } from './bytes.js';
import { memberShape, replicaShape } from './genesis.js';
import { keyID, verifySignature } from './cose.js';
import { bool, bytes, list, name, object, optional } from './shape.js';

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
};

const args = {
  'council.change': object({ add: optional(list(memberShape)), remove: optional(list(name)) }),
  'council.reseat': object({ council: list(memberShape) }),
  'replica.add': object({ replica: replicaShape }),
  'replica.rekey': object({ replica: replicaShape }),
  'replica.remove': object({ cause: optional(bool), name }),
  'node.admit': object({ joins: list(bytes(32), { max: 300 }) }),
  'node.rekey': object({ join: bytes(32) }),
  'node.remove': object({ name }),
};

export class Principals {
  constructor(genesis) {
    this.byKey = new Map(); // hex key id: {name, role, public, active}
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
    this.byKey.set(id, { name: holder, role, public: key, active: true });
  }

  unseat(role, holder) {
    for (const p of this.byKey.values()) if (p.role === role && p.name === holder) p.active = false;
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
    verifySignature(statement, who.public);
    if (statement.type === 'propose') this.proposals.set(hex(statement.id), statement.body);
    if (statement.type === 'recover') this.proposals.set(hex(statement.id), { action: 'recover', args: statement.body });
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
        for (const holder of a.remove ?? []) this.unseat('governor', holder);
        for (const m of a.add ?? []) this.seat('governor', m);
        return;
      case 'council.reseat':
        this.reseat(a.council);
        return;
      case 'replica.remove':
        this.unseat('replica', a.name);
        return;
      case 'replica.rekey':
        this.unseat('replica', a.replica.name);
        this.seat('replica', a.replica);
        return;
      case 'replica.add':
        this.seat('replica', a.replica);
        return;
      case 'node.remove':
        this.unseat('node', a.name);
        return;
      case 'node.rekey':
        this.admit(a.join, true);
        return;
      case 'node.admit':
        for (const id of a.joins) this.admit(id, false);
    }
  }

  // Replicas that a recovery does not keep lose their keys.
  recovered({ generation, keep, new: fresh = [] }) {
    for (const p of this.byKey.values()) if (p.role === 'replica' && !keep.includes(p.name)) p.active = false;
    for (const r of fresh) this.seat('replica', replicaShape(r));
    return generation;
  }

  // A governor who keeps a seat keeps the key.
  reseat(council) {
    for (const p of this.byKey.values()) {
      if (p.role === 'governor') p.active = council.some((m) => m.name === p.name && equal(m.public, p.public));
    }
    for (const m of council) if (!this.byKey.get(hex(keyID(m.public)))?.active) this.seat('governor', m);
  }

  admit(joinID, rekey) {
    const join = this.joins.get(hex(joinID));
    if (!join) throw new Refused(`join ${hex(joinID)} is not on the ledger`);
    if (rekey) this.unseat('node', join.name);
    this.seat('node', join);
  }
}
