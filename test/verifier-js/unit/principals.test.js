import assert from 'node:assert/strict';
import test from 'node:test';
import { Refused } from '../bytes.js';
import { Principals } from '../principals.js';

// A replica's key came in epoch 4: before, it says nothing, and in force it has no end.
test('a replica says nothing of an epoch before its key came', () => {
  const principals = new Principals({ format: 3, council: [], replicas: [], policy: { grace_epochs: 1 } });
  const replica = { name: 'r1', role: 'replica', first: 4 };
  const says = (epoch) => principals.inRange({ epoch, kid: new Uint8Array(32), type: 'record' }, replica);
  assert.throws(() => says(3), Refused);
  for (const epoch of [4, 400]) says(epoch);
});
