import assert from 'node:assert/strict';
import test from 'node:test';
import { H, Refused, hex, unhex, utf8 } from '../bytes.js';
import { rootOf, node, tilePath, tilesOf, verifyConsistency, verifyInclusion, Frontier } from '../merkle.js';
import { digest, parseProof, recordHash, verifyProof } from '../trie.js';
import { consistency, inclusion } from './madeledger.js';

const leaves = Array.from({ length: 40 }, (_, i) => H(Uint8Array.of(0, i)));

// The definition of RFC 6962 section 2.1, to hold the frontier against.
function mth(d) {
  if (d.length === 1) return d[0];
  let k = 1;
  while (k * 2 < d.length) k *= 2;
  return node(mth(d.slice(0, k)), mth(d.slice(k)));
}

test('the root of an empty tree', () => {
  assert.equal(hex(new Frontier().root()), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
});

test('inclusion and consistency at every size', () => {
  for (let n = 1; n <= leaves.length; n++) {
    const d = leaves.slice(0, n);
    const root = rootOf(d);
    assert.equal(hex(root), hex(mth(d)));
    for (let i = 0; i < n; i++) {
      const proof = inclusion(d, i);
      verifyInclusion(proof, i, n, d[i], root);
      assert.throws(() => verifyInclusion([...proof, d[0]], i, n, d[i], root), Refused);
      assert.throws(() => verifyInclusion(proof, i, n, d[(i + 1) % n], n === 1 ? H() : root), Refused);
      const old = i + 1;
      const path = consistency(d, old);
      verifyConsistency(path, old, rootOf(d.slice(0, old)), n, root);
      if (old < n) {
        assert.throws(() => verifyConsistency(path, old, root, n, root), Refused);
        assert.throws(() => verifyConsistency(path.slice(1), old, rootOf(d.slice(0, old)), n, root), Refused);
      }
    }
  }
});

test('tiles', () => {
  assert.equal(tilePath(0, 0), 'tile/0/000');
  assert.equal(tilePath('entries', 1234067, 9), 'tile/entries/x001/x234/067.p/9');
  assert.deepEqual(tilesOf(0, 256).map((t) => t.path), ['tile/0/000']);
  assert.deepEqual(tilesOf(1, 256).map((t) => t.path), ['tile/1/000.p/1']);
  assert.deepEqual(tilesOf(0, 257).map((t) => t.path), ['tile/0/000', 'tile/0/001.p/1']);
});

test('the digest of few records', () => {
  assert.equal(hex(digest([])), '0'.repeat(64));
  const one = ['a', utf8('1')];
  assert.equal(hex(digest([one])), hex(recordHash('a', H(utf8('1')))));
  verifyProof(parseProof({ key: 'a', siblings: [] }), digest([one]), utf8('1'));
  verifyProof(parseProof({ key: 'b', siblings: [] }), digest([]));
  assert.throws(() => verifyProof(parseProof({ key: 'a', siblings: [] }), digest([one])), Refused);
});

test('a record that is there cannot be shown to be absent', () => {
  const d = digest([['a', utf8('1')]]);
  const other = { key: 'a', value: 'a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s' };
  assert.throws(() => verifyProof(parseProof({ key: 'a', siblings: [], other }), d), Refused);
  verifyProof(parseProof({ key: 'b', siblings: [], other }), d);
  assert.equal(unhex('00ff')[1], 255);
});
