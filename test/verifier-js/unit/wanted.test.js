import assert from 'node:assert/strict';
import test from 'node:test';
import { wanted } from '../authority.js';

const council = ['alpha', 'beta', 'gamma', 'delta', 'epsilon'].map((operator) => ({ operator }));
const most = (old, next) => Math.max(...wanted('policy.change', { council, thresholds: old }, { thresholds: next }));

test('a change of policy is decided by as many as every rule wants that it lowers or drops', () => {
  const rules = { 'key.revoke': 5, 'node.remove': 4, 'policy.change': 3 };
  const { 'key.revoke': own, ...without } = rules;
  assert.equal(most(rules, rules), 3);
  assert.equal(most(rules, without), own);
  assert.equal(most(without, rules), 3);
  assert.equal(most(without, { ...without, 'node.remove': 1 }), 4);
  assert.equal(most(rules, { ...without, 'policy.change': 5, 'key.revoke': 5 }), 5);
});
