// Checkpoints: FORMAT.md section 9, on C2SP signed-note, tlog-checkpoint and
// tlog-cosignature.
import { ed25519 } from '@noble/curves/ed25519.js';
import { ml_dsa44 } from '@noble/post-quantum/ml-dsa.js';
import { H, Refused, base64, concat, equal, hex, readU64, text, u64, unbase64, utf8 } from './bytes.js';
import { verify65 } from './cose.js';
import { name as checkName } from './shape.js';

const identifier65 = 'quorate/cosignature/v1';
const type = { ed25519: 0x01, mldsa44: 0x06, other: 0xff };
const maxCheckpointBytes = 1 << 20;
const maxLines = 128;

/** parseNote splits a signed note: {text, signatures: [{name, id, signature}]}. */
export function parseNote(bytes) {
  if (bytes.length > maxCheckpointBytes) throw new Refused(`note of ${bytes.length} bytes`);
  const all = text(bytes);
  if (/[\u0000-\u0009\u000b-\u001f]/.test(all)) throw new Refused('note: control character'); // eslint-disable-line no-control-regex
  const cut = all.lastIndexOf('\n\n');
  if (cut < 0 || !all.endsWith('\n')) throw new Refused('note: no empty line before the signatures');
  const lines = cut + 2 === all.length ? [] : all.slice(cut + 2, -1).split('\n');
  if (lines.length > maxLines) throw new Refused(`note of ${lines.length} signature lines`);
  const signatures = lines.map((line) => {
    const m = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/u.exec(line);
    if (!m) throw new Refused('note: malformed signature line');
    const b = unbase64(m[2]);
    if (b.length < 5) throw new Refused('note: signature too short');
    return { name: m[1], id: b.subarray(0, 4), signature: b.subarray(4) };
  });
  return { text: all.slice(0, cut + 1), signatures };
}

/**
 * parseCheckpoint gives {origin, size, root, text, logLines, pairs, others}: the
 * log's own lines, per cosigning replica its line65 and, maybe, its line44, and
 * how many lines are anybody else's.
 */
export function parseCheckpoint(bytes) {
  const note = parseNote(bytes);
  const m = /^([^\n]+)\n([1-9][0-9]{0,15})\n([A-Za-z0-9+/=]{44})\n$/.exec(note.text);
  if (!m) throw new Refused('checkpoint: want origin, size and root, a line each');
  const size = Number(m[2]);
  if (!Number.isSafeInteger(size)) throw new Refused('checkpoint: size above 2^53-1');
  const head = { text: note.text, origin: m[1], size, root: unbase64(m[3]), logLines: [], pairs: [], others: 0 };
  if (head.root.length !== 32) throw new Refused('checkpoint: root is not 32 bytes');
  sortLines(note.signatures, head);
  return head;
}

const bytes44 = 8 + 2420;
const bytes65 = 8 + 3309;

// sortLines puts each line where it belongs, and refuses any other order than
// log, replicas by name and key id, others.
function sortLines(lines, head) {
  const prefix = `${head.origin}/replica/`;
  const seen = new Set();
  let place = 0;
  let line44;
  for (const line of lines) {
    const key = `${line.name} ${hex(line.id)}`;
    if (seen.has(key)) throw new Refused(`checkpoint: two lines of one key of ${line.name}`);
    seen.add(key);
    const of = line.name === head.origin ? 0 : line.name.startsWith(prefix) ? 1 : 2;
    if (of < place) throw new Refused(`checkpoint: the line of ${line.name} is out of order`);
    place = of;
    if (line44 && !(of === 1 && line.name === line44.name && line.signature.length === bytes65)) {
      throw new Refused(`checkpoint: the ML-DSA-44 line of ${line44.name} stands alone`);
    }
    if (of === 0) head.logLines.push(line);
    if (of === 2) head.others++;
    if (of !== 1) continue;
    checkName(line.name.slice(prefix.length));
    line.time = line.signature.length < 8 ? 0 : readU64(line.signature);
    if (line.time < 1) throw new Refused(`checkpoint: the line of ${line.name} has no time`);
    if (line.signature.length === bytes44 && !line44) line44 = line;
    else if (line.signature.length === bytes65) {
      addPair(head.pairs, { name: line.name.slice(prefix.length), line44, line65: line });
      line44 = undefined;
    } else throw new Refused(`checkpoint: the line of ${line.name} is no cosignature`);
  }
  if (line44) throw new Refused(`checkpoint: the ML-DSA-44 line of ${line44.name} stands alone`);
}

function addPair(pairs, pair) {
  if (pair.line44 && pair.line44.time !== pair.line65.time) throw new Refused(`checkpoint: two times of ${pair.name}`);
  const last = pairs.at(-1);
  const rises = !last || last.name < pair.name || (last.name === pair.name && hex(last.line65.id) < hex(pair.line65.id));
  if (!rises) throw new Refused(`checkpoint: the lines of ${pair.name} are out of order`);
  pairs.push(pair);
}

const noteKeyID = (name, kind, key) => H(name, 0x0a, kind, key).subarray(0, 4);

/** vkey is a C2SP verifier key: name+hex(id)+base64(type || key). */
export const vkey = (name, kind, key) => `${name}+${hex(noteKeyID(name, kind, key))}+${base64(concat(kind, key))}`;

export const cosignerName = (origin, replica) => `${origin}/replica/${replica}`;
export const cosignerVKey = (origin, replica) => vkey(cosignerName(origin, replica.name), type.mldsa44, replica.cosigner);
export const logVKey = (origin, log) => vkey(origin, type.ed25519, log.ed25519);
export const logVKey44 = (origin, log) => vkey(origin, type.mldsa44, log.mldsa44);

const sized = (s) => {
  const b = utf8(s);
  if (b.length > 255) throw new Refused('name longer than 255 bytes');
  return concat(b.length, b);
};

// What both cosignatures sign after their label (and ML-DSA-65 after the branch): a subtree that starts at 0.
const statementOf = (name, time, head) =>
  concat(sized(name), u64(time), sized(head.origin), u64(0), u64(head.size), head.root);

// A cosignature is u64 time || signature.
function verify44(head, name, key, signature) {
  try {
    const message = concat('subtree/v1\n\0', statementOf(name, readU64(signature), head));
    return ml_dsa44.verify(signature.subarray(8), message, key);
  } catch {
    return false; // a malformed key or signature
  }
}

// branchOf is what replicas cosign heads of: the ledger and, but for the first, the generation.
export const branchOf = ({ ledger, generation }) => (generation === 0 ? ledger : H('quorate/generation/v1\n\0', ledger, u64(generation)));

function verifyCosignature65(branch, head, name, key, signature) {
  const message = concat(`${identifier65}\n\0`, branch, statementOf(name, readU64(signature), head));
  return verify65(key, message, signature.subarray(8));
}

function verifyEd25519(head, key, signature) {
  try {
    return ed25519.verify(signature, utf8(head.text), key);
  } catch {
    return false;
  }
}

/**
 * verifyCheckpoint checks every line whose key authority knows, and that
 * enough replicas certify the head: {cosigners: [name], signed: seconds}, where
 * signed is the threshold-th newest time among them.
 */
export function verifyCheckpoint(head, authority) {
  if (head.origin !== authority.origin) throw new Refused(`checkpoint of ${head.origin}, not ${authority.origin}`, { code: 'other_origin' });
  for (const line of head.logLines) verifyLogLine(head, line, authority.log);
  const cosigners = [];
  const times = [];
  for (const pair of head.pairs) {
    if (!verifyPair(head, pair, authority)) continue;
    cosigners.push(pair.name);
    times.push(pair.line65.time);
  }
  const want = authority.cosign_threshold;
  if (cosigners.length < want) throw new Refused(`checkpoint: certified by ${cosigners.length} replicas, ${want} are needed`, { code: 'short' });
  times.sort((a, b) => b - a);
  return { cosigners, signed: times[want - 1] };
}

function verifyLogLine(head, { name, id, signature }, log) {
  let good = true;
  if (equal(id, noteKeyID(name, type.ed25519, log.ed25519))) good = verifyEd25519(head, log.ed25519, signature);
  else if (equal(id, noteKeyID(name, type.mldsa44, log.mldsa44))) good = verify44(head, name, log.mldsa44, signature);
  if (!good) throw new Refused('checkpoint: a line of the log itself does not verify', { code: 'bad_signature' });
}

// verifyPair tells whether an active replica signed; a known key's line that
// does not verify makes the whole note invalid.
function verifyPair(head, { name: replica, line44, line65 }, authority) {
  const r = authority.replicas.find((r) => r.name === replica && !r.joining);
  const name = cosignerName(head.origin, replica);
  if (!r || !equal(line65.id, noteKeyID(name, type.other, concat(identifier65, r.public)))) return false;
  if (!verifyCosignature65(branchOf(authority), head, name, r.public, line65.signature)) throw new Refused(`checkpoint: the ML-DSA-65 line of ${replica} does not verify`, { code: 'bad_signature' });
  if (line44 && equal(line44.id, noteKeyID(name, type.mldsa44, r.cosigner)) && !verify44(head, name, r.cosigner, line44.signature)) {
    throw new Refused(`checkpoint: the ML-DSA-44 line of ${replica} does not verify`, { code: 'bad_signature' });
  }
  return true;
}

/**
 * cosignedBy says whether both lines of a pair are those of a replica of an
 * authority, and verify.
 */
export function cosignedBy(authority, replica, head, { name: of, line44, line65 }) {
  const name = cosignerName(head.origin, replica.name);
  return of === replica.name && line44 !== undefined &&
    equal(line44.id, noteKeyID(name, type.mldsa44, replica.cosigner)) && equal(line65.id, noteKeyID(name, type.other, concat(identifier65, replica.public))) &&
    verify44(head, name, replica.cosigner, line44.signature) &&
    verifyCosignature65(branchOf(authority), head, name, replica.public, line65.signature);
}
