// Genesis: FORMAT.md section 6.
import { Refused, equal, hex, within } from './bytes.js';
import * as canon from './canon.js';
import { publicKeyBytes } from './cose.js';
import { leafHash, parseEntry } from './entry.js';
import { bytes, list, map, name, object, optional, sorted, string, uint } from './shape.js';

export const cosignerBytes = 1312;
export const publicKey = bytes(publicKeyBytes);
export const memberShape = object({ name, operator: name, public: publicKey, recipient: optional(string) });
export const replicaShape = object({
  api: optional(string), cosigner: bytes(cosignerBytes), name, operator: name, peer: string, public: publicKey, tls_pin: bytes(32),
});
export const recoveryShape = object({ holders: sorted(object({ name, public: publicKey })), threshold: uint });
export const logShape = object({ ed25519: bytes(32), mldsa44: bytes(cosignerBytes) });
export const policyShape = object({
  closed_retention_millis: uint, epoch_millis: uint, grace_epochs: uint, key_epochs: uint, keys: optional(object({
    backup_roles: list(string), late_epochs: uint, replica_key_epochs: uint, retention_epochs: uint, rotate_epochs: uint, test_epochs: uint,
  })), max_head_age_millis: uint,
  max_skew_millis: uint, proposal_lifetime_millis: uint, quota: uint, tick_millis: uint,
  protection: optional(object(Object.fromEntries([
    'age_epochs', 'attest_epochs', 'attestors', 'bad_points', 'breaker_basis_points', 'clean_points', 'down_points',
    'exclude_strikes', 'forget_epochs', 'heat_points', 'leave_reputation', 'minor_points', 'monitors', 'muted_epochs',
    'partition_basis_points', 'probe_quota', 'probe_ticks', 'quarantine_below', 'start_reputation', 'stay_epochs',
    'vote_reputation', 'window_ticks',
  ].map((field) => [field, uint])))),
  rules: map(object({ delay_millis: uint, threshold: uint, vetoers: optional(list(name)) })),
});
const genesisShape = object({
  council: sorted(memberShape), created: uint, format: uint, log: logShape,
  operators: sorted(object({ name, sponsor: optional(name) })), origin: string, policy: policyShape,
  recovery: optional(recoveryShape), replicas: sorted(replicaShape), witness_quorum: optional(uint),
  witnesses: optional(sorted(object({ name: string, vkey: string }))),
});

export const maxCouncil = 64;
export const maxReplicas = 31;

/** parseGenesis reads entry 0, whose leaf hash must be the trusted hash. */
export function parseGenesis(entryBytes, trusted) {
  const hash = leafHash(entryBytes);
  if (!equal(hash, trusted)) throw new Refused(`entry 0 hashes to ${hex(hash)}, not to the genesis hash given`);
  const entry = parseEntry(entryBytes);
  if (entry.kind !== 'genesis') throw new Refused('entry 0 is no genesis');
  if (entry.prev.some((b) => b)) throw new Refused('entry 0 follows another');
  const raw = canon.decode(entry.content);
  const genesis = genesisShape(raw);
  if (genesis.format < 1 || genesis.format > 3) throw new Refused(`format ${genesis.format}; this verifier reads 1 to 3`);
  if (genesis.format < 2 && genesis.policy.protection) throw new Refused('policy.protection: from format 2 on');
  if (genesis.format < 3 && genesis.policy.keys) throw new Refused('policy.keys: from format 3 on');
  if (genesis.created !== entry.stamp) throw new Refused('created is not the stamp of entry 0');
  checkOrigin(genesis.origin);
  checkSeats(genesis);
  within('policy', () => checkPolicy(genesis.policy, genesis.council, genesis.format));
  return { ...genesis, raw };
}

function checkOrigin(origin) {
  if (!/^[\x21-\x2a\x2c-\x7e]{1,128}$/.test(origin) || origin.includes('://') || origin.endsWith('/')) throw new Refused(`origin ${origin}`);
}

// Each name and each key has one seat; each operator named exists.
function checkSeats({ council, operators, recovery, replicas }) {
  if (council.length < 1 || council.length > maxCouncil) throw new Refused(`council of ${council.length}`);
  if (replicas.length < 1 || replicas.length > maxReplicas) throw new Refused(`${replicas.length} replicas`);
  const holders = recovery?.holders ?? [];
  if (recovery && (recovery.threshold < 1 || recovery.threshold > holders.length)) throw new Refused('recovery.threshold');
  const names = new Set();
  const keys = new Set();
  for (const seat of [...council, ...replicas, ...holders]) {
    const key = hex(seat.public);
    if (names.has(seat.name) || keys.has(key)) throw new Refused(`${seat.name}: name or key has another seat`);
    if (seat.operator !== undefined && !operators.some((o) => o.name === seat.operator)) throw new Refused(`${seat.name}: unknown operator ${seat.operator}`);
    names.add(seat.name);
    keys.add(key);
  }
  for (const field of ['peer', 'tls_pin']) {
    if (new Set(replicas.map((r) => String(r[field]))).size < replicas.length) throw new Refused(`two replicas have one ${field}`);
  }
}

const governed = [
  'council.change', 'council.reseat', 'epoch.advance', 'format.upgrade', 'ledger.freeze', 'ledger.unfreeze', 'log.rekey',
  'node.admit', 'node.quarantine', 'node.rekey', 'node.release', 'node.remove', 'operator.add', 'operator.remove',
  'policy.change', 'replica.add', 'replica.rekey', 'replica.remove',
];
const needsMajority = /^(council\.change|format\.upgrade|ledger\.(un)?freeze|log\.rekey|(operator|policy|replica)\..*)$/;

/** checkPolicy checks a policy's rules against a council, in a ledger of that format. */
export function checkPolicy(policy, council, format) {
  const n = new Set(council.map((m) => m.operator)).size;
  const rules = Object.keys(policy.rules).filter((action) => format < 3 || action !== 'key.revoke');
  if (rules.sort().join() !== governed.join()) throw new Refused('rules: want one for every action');
  for (const [action, { threshold, vetoers = [] }] of Object.entries(policy.rules)) {
    const least = needsMajority.test(action) ? Math.floor(n / 2) + 1 : 1;
    if (threshold < least || (threshold > n && action !== 'council.reseat')) throw new Refused(`rules: threshold of ${action}`);
    for (let i = 1; i < vetoers.length; i++) if (!(vetoers[i - 1] < vetoers[i])) throw new Refused(`rules: vetoers of ${action} not sorted`);
  }
}
