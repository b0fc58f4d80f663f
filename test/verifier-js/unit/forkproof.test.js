import assert from 'node:assert/strict';
import test from 'node:test';
import { Refused, base64url, utf8 } from '../bytes.js';
import * as canon from '../canon.js';
import { rootOf } from '../merkle.js';
import { verifyProofFile } from '../prooffile.js';
import { MadeLedger, consistency } from './madeledger.js';

// told is a ledger whose first record is this text, and the heads at its seals.
function told(text) {
  const l = new MadeLedger();
  const heads = [];
  for (const words of [text, 'later']) {
    l.nonced('record', 'alice', { text: words });
    l.seal();
    heads.push({ size: l.size, root: rootOf(l.leaves), note: soleNote(l, 'r2') });
  }
  return { l, heads };
}

// soleNote is the newest checkpoint with one replica's lines alone.
function soleNote(l, signer) {
  const [body, lines] = l.checkpoint([signer]).split('\n\n');
  return `${body}\n\n${lines.split('\n').filter((line) => line.includes(`/replica/${signer} `)).join('\n')}\n`;
}

const ours = told('ours');
const theirs = told('theirs');

function proof(change = () => {}) {
  const p = {
    authority: ours.l.links.map((l) => canon.decode(l)), consistency: consistency(ours.l.leaves, theirs.heads[0].size).map(base64url),
    ours: ours.heads[1].note, root: base64url(ours.heads[0].root), theirs: theirs.heads[0].note, type: 'quorate/fork-proof.v1',
  };
  change(p);
  return utf8(canon.encode(p));
}

test('a fork proof verifies', () => {
  const shown = verifyProofFile(proof(), ours.l.hash);
  assert.match(shown.shows, /^FORK: replica r2 of south, key [0-9a-f]{64}, signed root [0-9a-f]{64} at size 3, and a head of size 5 /);
  assert.deepEqual(shown.forked, theirs.heads[0].root);
  const atOnce = verifyProofFile(proof((p) => { p.consistency = []; p.ours = ours.heads[0].note; }), ours.l.hash);
  assert.equal(atOnce.ours, 3);
});

for (const [name, change, message] of [
  ['one history', (p) => { p.theirs = ours.heads[0].note; }, /of one history/],
  ['another root', (p) => { p.root = base64url(new Uint8Array(32)); }, /consistency proof/],
  ['a larger head of theirs', (p) => { p.theirs = theirs.heads[1].note; p.ours = ours.heads[0].note; }, /consistency/],
  ['a head of another replica', (p) => { p.theirs = soleNote(theirs.l, 'r1'); }, /of r2 and of r1/],
  ['a signature changed', (p) => { p.theirs = p.theirs.replace(/.(.{99})$/s, (all, rest) => (all[0] === 'A' ? 'B' : 'A') + rest); }, /no key that r2 had/],
  ['a certified head', (p) => { p.ours = ours.l.checkpoint(); }, /one cosignature/],
]) {
  test(`no fork proof: ${name}`, () => {
    assert.throws(() => verifyProofFile(proof(change), ours.l.hash), (e) => e instanceof Refused && message.test(e.message));
  });
}

test('a fork proof of another ledger', () => {
  assert.throws(() => verifyProofFile(proof(), new Uint8Array(32)), Refused);
});
