import assert from 'node:assert/strict';
import test from 'node:test';
import { H, Refused, hex, utf8 } from '../bytes.js';
import { verifyVectors } from '../vectors.js';
import { source } from './madeledger.js';

const folder = (name, file) => {
  const b = utf8(JSON.stringify(file));
  return new Map([[name, b], ['SHA256SUMS', utf8(`${hex(H(b))}  ${name}\n`)]]);
};
const good = { cases: [{ name: 'zero', bytes: '30' }, { name: 'space', bytes: '2030', error: 'not_json' }] };

test('vectors are checked', async () => {
  assert.match(await verifyVectors(source(folder('canon.json', good))), /2 cases in 1 files/);
});

for (const [name, files, message] of [
  ['none', new Map(), /SHA256SUMS is missing/],
  ['an empty list', folder('canon.json', { cases: [] }), /empty/],
  ['an unknown file', folder('other.json', good), /not known/],
  ['a case that should be refused', folder('canon.json', { cases: [{ bytes: '30', error: 'x' }] }), /accepted, should be refused/],
  ['a case that should be accepted', folder('canon.json', { cases: [{ bytes: '2030' }] }), /refused, should be accepted/],
  ['another file than was hashed', new Map([...folder('canon.json', good), ['canon.json', utf8('{}')]]), /not those of SHA256SUMS/],
]) {
  test(`vectors fail: ${name}`, () => assert.rejects(verifyVectors(source(files)), (e) => e instanceof Refused && message.test(e.message)));
}
