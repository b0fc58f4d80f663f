// The golden vectors, as test/vectors/README.md describes them. A file that is
// not known here fails, so that none is passed over in silence.
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { ml_dsa44, ml_dsa65 } from '@noble/post-quantum/ml-dsa.js';
import { H, Refused, hex, text, unhex, utf8, within } from './bytes.js';
import * as canon from './canon.js';
import { Chain, recordShape } from './authority.js';
import { parseBackup } from './backup.js';
import { branchOf, parseCheckpoint, verifyCheckpoint } from './checkpoint.js';
import { parseCommand } from './command.js';
import { keyID, parseOuter, parseStatement, verifySignature } from './cose.js';
import { effect, leafHash, parseEntry, seal } from './entry.js';
import { parseGenesis } from './genesis.js';
import { verifyJoinPack } from './joinpack.js';
import { Principals } from './principals.js';
import { verifyProofFile } from './prooffile.js';
import { digest, parseProof, verifyProof } from './trie.js';
import { attests, draw, judge } from './protection.js';
import { rotationMessage, verifyPossession } from './rotation.js';
import { combine, shareHash } from './shares.js';
import { words } from './words.js';

const files = {
  'canon.json': { cases: canonCase },
  'keys-with-test-keys.json': { keys: keyCase, words: wordsCase },
  'statements-with-test-keys.json': { cases: statementCase },
  'entries-with-test-keys.json': { cases: entryCase },
  'commands-with-test-keys.json': { cases: commandCase },
  'trie.json': { digests: digestCase, proofs: proofCase },
  'checkpoints-with-test-keys.json': { cases: checkpointCase },
  'authority-with-test-keys.json': authorityFile,
  'proofs-with-test-keys.json': { cases: proofFileCase },
  'forks-with-test-keys.json': { cases: forkCase },
  'recover-with-test-keys.json': authorityFile,
  'recoveruntil-with-test-keys.json': authorityFile,
  'protection-with-test-keys.json': { offences: offenceCase, draws: drawCase },
  'joinpacks-with-test-keys.json': { cases: packCase },
  'keyslife-with-test-keys.json': { rotations: rotationCase, shares: shareCase, combined: combinedCase },
  'rotation-with-test-keys.json': authorityFile,
  'backups-with-test-keys.json': { cases: backupCase },
  'keyat-with-test-keys.json': keyAtFile,
};

/** verifyVectors checks every file of a folder and says how many cases held. */
export async function verifyVectors(source) {
  const sums = await source.read('SHA256SUMS');
  if (!sums) throw new Refused('SHA256SUMS is missing');
  const lines = text(sums).trimEnd().split('\n');
  let total = 0;
  for (const line of lines) {
    const [want, name] = line.split(/ +/);
    const b = await source.read(name);
    if (!b) throw new Refused(`${name} is missing`);
    if (hex(H(b)) !== want) throw new Refused(`${name}: its bytes are not those of SHA256SUMS`);
    const check = files[name];
    if (!check) throw new Refused(`${name} is not known to this verifier`);
    total += within(name, () => checkFile(check, JSON.parse(text(b))));
  }
  if (total === 0) throw new Refused('no vectors were found');
  return `VERIFIED: ${total} cases in ${lines.length} files of vectors`;
}

function checkFile(check, file) {
  if (typeof check === 'function') return check(file);
  let n = 0;
  for (const [list, one] of Object.entries(check)) n += every(file[list], (c) => one(c, file), list);
  return n;
}

function every(cases, one, list) {
  if (!cases?.length) throw new Refused(`${list}: empty`);
  cases.forEach((c, i) => within(`${list}[${i}] ${c.name ?? ''}`, () => one(c, i)));
  return cases.length;
}

function same(what, got, want) {
  if (got !== want) throw new Refused(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

/** attempt runs fn and gives what it refused with, if it did. */
function attempt(fn) {
  try {
    return { value: fn() };
  } catch (e) {
    if (e instanceof Refused) return { refused: e };
    throw e;
  }
}

/** expect runs fn, which must succeed exactly if ok. */
function expect(ok, fn) {
  const { value, refused } = attempt(fn);
  if (ok && refused) throw new Refused(`refused, should be accepted: ${refused.message}`);
  if (!ok && !refused) throw new Refused('accepted, should be refused');
  return value;
}

function canonCase(c) {
  expect(!c.error, () => canon.decode(unhex(c.bytes)));
}

function keyCase(c) {
  const seed = unhex(c.seed);
  same('public', hex(ml_dsa65.keygen(seed).publicKey), c.public);
  same('id', hex(keyID(unhex(c.public))), c.id);
  same('words', words(unhex(c.id)), c.words);
  const derived = hkdf(sha256, seed, new Uint8Array(), utf8('quorate/cosigner-mldsa44/v1'), 32);
  same('cosigner', hex(ml_dsa44.keygen(derived).publicKey), c.cosigner);
}

function wordsCase(c) {
  same('words', words(unhex(c.bytes)), c.words);
}

function statementCase(c) {
  const s = expect(!c.error, () => parseOuter(unhex(c.envelope)));
  if (!s) return;
  same('id', hex(s.id), c.id);
  same('key_id', hex(s.kid), c.key_id);
  same('signed', hex(s.signed), c.signed);
  same('payload', text(s.raw), c.payload);
  const { refused } = attempt(() => verifySignature(s, unhex(c.public)));
  same('signature', refused ? 'invalid' : 'valid', c.signature);
}

// Cases that were refused as of a later format, which this verifier knows by
// now: files of vectors are never altered.
const validSince = { 'genesis: format 2': 2 };

function entryCase(c) {
  const bytes = unhex(c.entry);
  if (validSince[c.name]) return void parseGenesis(bytes, leafHash(bytes));
  const e = expect(!c.error, () => {
    const entry = parseEntry(bytes);
    if (entry.kind === 'genesis') parseGenesis(bytes, leafHash(bytes));
    if (entry.kind === 'effect') effect(entry);
    if (entry.kind === 'seal') seal(entry);
    return entry;
  });
  if (!e) return;
  same('leaf', hex(leafHash(bytes)), c.leaf);
  for (const field of ['seq', 'stamp', 'kind']) same(field, e[field], c[field]);
  same('prev', hex(e.prev), c.prev);
  same('content', hex(e.content), c.content);
}

function offenceCase(c) {
  const exhibits = c.exhibits.map((x) => parseStatement(unhex(x)));
  const offence = expect(!!c.offence, () => judge(c.kind, exhibits, c.quota));
  if (offence) same('offence', offence, c.offence);
}

function drawCase(c) {
  const seed = unhex(c.seed);
  const drawn = draw(seed, c.subject, c.operator, c.stables, c.limit);
  const said = drawn.map((m) => ({ ...m, attests: attests(seed, m.node, c.attestors, drawn.length) }));
  same('drawn', JSON.stringify(said), JSON.stringify(c.drawn));
}

function commandCase(c) {
  const command = expect(!c.error, () => parseCommand(unhex(c.command)));
  if (!command) return;
  same('kind', command.kind, c.kind);
  same('stamp', command.stamp, c.stamp);
  same('statements', command.statements.map(hex).join(), (c.statements ?? []).join());
}

function digestCase(c) {
  const records = c.records.map((r) => [r.key, utf8(r.value)]);
  same('digest', hex(digest(records)), c.digest);
  same('digest of the reverse', hex(digest(records.reverse())), c.digest);
}

function proofCase(c) {
  expect(c.holds, () => {
    const proof = parseProof(canon.decode(utf8(c.proof)));
    verifyProof(proof, unhex(c.digest), proof.value === undefined ? undefined : utf8(canon.encode(proof.value)));
  });
}

function checkpointCase(c, { authority }) {
  const under = recordShape(canon.decode(utf8(authority)));
  const { value, refused } = attempt(() => {
    const head = parseCheckpoint(utf8(c.note));
    return { ...head, ...verifyCheckpoint(head, under) };
  });
  same('result', refused ? refused.code : 'certified', c.result);
  if (refused) return;
  same('size', value.size, c.size);
  same('root', hex(value.root), c.root);
  same('cosigners', value.cosigners.length, c.cosigners);
  same('signed', value.signed, c.signed);
}

// Long strings stand once in a file's list of strings, $N$ for number N of it.
const expand = (s, strings) => utf8(s.replace(/\$([0-9]+)\$/g, (_, n) => strings[n]));

function authorityFile({ genesis, strings, links, certifiers, refused, checkpoints }) {
  const bytes = (s) => expand(s, strings);
  const chains = links.map((_, i) => {
    const chain = new Chain(unhex(genesis), bytes(links[0]));
    for (const link of links.slice(1, i + 1)) within(`links to ${i}`, () => chain.extend(bytes(link)));
    const active = chain.latest.replicas.filter((r) => !r.joining).map((r) => r.name);
    same(`certifiers[${i}]`, active.join(), certifiers[i].replaceAll(" ", ","));
    return chain;
  });
  every(refused, (c) => expect(false, () => {
    if (c.after < 0) return new Chain(unhex(genesis), bytes(c.link));
    return chains[c.after].extend(bytes(c.link));
  }), 'refused');
  every(checkpoints, (c) => expect(c.ok, () => chains.at(-1).certify(parseCheckpoint(bytes(c.note)))), 'checkpoints');
  return links.length + refused.length + checkpoints.length;
}

function proofFileCase(c, { genesis, strings }) {
  const shown = expect(c.holds, () => verifyProofFile(expand(c.file, strings), unhex(genesis)));
  if (!shown) return;
  same('size', shown.size, c.size);
  if (c.entry === undefined) {
    same('key', shown.key, c.key);
    same('value', shown.value, c.value);
    return;
  }
  same('seq', shown.seq, c.seq ?? 0);
  same('entry', hex(shown.entry), c.entry);
}

function forkCase(c, { genesis, strings }) {
  const shown = expect(c.holds, () => verifyProofFile(expand(c.file, strings), unhex(genesis)));
  if (!shown) return;
  for (const field of ['replica', 'operator', 'ours', 'theirs', 'signed']) same(field, shown[field], c[field]);
  for (const field of ['key', 'root', 'forked']) same(field, hex(shown[field]), c[field]);
}

function packCase(c, { genesis, strings }) {
  const shown = expect(c.holds, () => verifyJoinPack(expand(c.file, strings), unhex(genesis)));
  if (!shown) return;
  same('size', shown.size, c.size);
  same('endorsed', shown.endorsed, c.endorsed);
}

function rotationCase(c) {
  const s = parseStatement(unhex(c.envelope));
  expect(c.holds, () => verifyPossession(s, s, c.role));
  if (c.holds) same('message', hex(rotationMessage(branchOf(s), s.kid, s.author, s.body)), c.message);
}

function backupCase(c, { strings }) {
  const b = expect(c.holds, () => parseBackup(expand(c.file, strings)));
  if (!b) return;
  for (const field of ['holder', 'threshold']) same(field, b[field], c[field]);
  for (const field of ['hash', 'key']) same(field, hex(b[field]), c[field]);
  same('shares', b.shares.length, c.shares);
}

// Who held which key when follows from the entries alone.
function keyAtFile({ entries, words: cases }) {
  const [first, ...rest] = entries.map(unhex);
  const who = new Principals(parseGenesis(first, leafHash(first)));
  rest.forEach((bytes, i) => within(`entry ${i + 1}`, () => {
    const entry = parseEntry(bytes);
    if (entry.kind === 'statement') who.accept(parseStatement(entry.content));
    if (entry.kind === 'effect') who.happened(effect(entry));
  }));
  return every(cases, (c) => same('word', who.wordAt(unhex(c.key), c.epoch), c.word), 'words');
}

const shareOf = ({ set, index, value }) => ({ set: unhex(set), index, value: unhex(value) });

function shareCase(c) {
  same('hash', hex(shareHash(shareOf(c))), c.hash);
}

function combinedCase(c) {
  const fileKey = expect(!!c.file_key, () => combine(c.threshold, c.shares.map(shareOf)));
  if (fileKey) same('file_key', hex(fileKey), c.file_key);
}
