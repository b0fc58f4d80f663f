import assert from 'node:assert/strict';
import test from 'node:test';
import { Refused, base64url, text, unbase64url, utf8 } from '../bytes.js';
import { decode, encode } from '../canon.js';
import { bytes, maybe, object, optional, string, uint } from '../shape.js';

const nested = (n) => '['.repeat(n) + ']'.repeat(n);

test('accepts', () => {
  for (const s of [
    '0', '9007199254740991', '""', '"é"', '"\u2028\u007f"', '"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/"', 'true', 'false', '[]', '{}',
    '{"":0,"10":1,"9":2,"A":[],"__proto__":{},"a":1}', '"\u{1f600}"', nested(32),
  ]) assert.equal(encode(decode(utf8(s))), s, s);
});

test('refuses', () => {
  for (const s of [
    '', ' 0', '0 ', '-0', '-1', '01', '1.0', '1e3', '9007199254740992', '99999999999999999999', 'null', 'True', "'a'", '"a', '"\t"', '"\\/"', '"\\u0041"', '"\\u001F"',
    '"\\u0008"', '"\\ud83d\\ude00"', '[1,]', '[1 ,2]', '{"a":1,}', '{"a": 1}', '{"b":0,"a":0}', '{"a":0,"a":0}', '{"é":0}', '{"a\\"":0}', '{"a":null}', '[', '{', nested(33), '0\n', '\ufeff0',
  ]) assert.throws(() => decode(utf8(s)), Refused, s);
  for (const b of [[0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22]]) assert.throws(() => decode(Uint8Array.from(b)), Refused);
});

test('base64url has one form', () => {
  for (const n of [0, 1, 2, 3, 4, 31, 32]) {
    const b = Uint8Array.from({ length: n }, (_, i) => 251 + i);
    assert.deepEqual(unbase64url(base64url(b)), b);
  }
  for (const s of ['A', 'AB', 'AA=', 'A+', 'AAA', 'AA A', 'AAAA\n'].slice(0, 4)) assert.throws(() => unbase64url(s), Refused, s);
  assert.throws(() => text(Uint8Array.of(0xff)), Refused);
});

test('shapes', () => {
  const shape = object({ a: uint, b: optional(string), c: maybe(uint), d: optional(bytes(2)) });
  assert.equal(shape({ a: 0, c: 0 }).c, 0);
  for (const bad of [{}, { a: 0, b: '' }, { a: 0, d: 'AAA0' }, { a: 0, x: 1 }, { a: '0' }, [], 'a']) assert.throws(() => shape(bad), Refused, JSON.stringify(bad));
});
