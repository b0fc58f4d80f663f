import assert from 'node:assert/strict';
import test from 'node:test';
import { H, Refused, base64url, concat, utf8 } from '../bytes.js';
import { checkLines, verifyExport } from '../export.js';
import { MadeLedger, memberOf, people, recordReplicaOf, replica, source } from './madeledger.js';

// story: a node joins and speaks, a governor and a replica come, one goes.
function story() {
  const l = new MadeLedger();
  l.nonced('record', 'alice', { text: 'the first word' });
  l.seal();
  const join = l.nonced('join', 'edge-1', { name: 'edge-1', operator: 'south', peer: base64url(new Uint8Array(32).fill(7)), public: people['edge-1'].public });
  l.decide('node.admit', { joins: [base64url(join.id)] }, 'alice', 'bob');
  l.state('record', 'edge-1', { text: 'here' }, { epoch: 0, seq: 0 });
  l.seal('urgent');
  let causes = l.decide('council.change', { add: [memberOf(people.dave)], remove: ['carol'] }, 'carol', 'bob');
  l.handover({ council: ['alice', 'bob', 'dave'].map((n) => memberOf(people[n])) }, causes);
  causes = l.decide('replica.remove', { name: 'r4' }, 'dave', 'bob');
  l.handover({ replicas: ['r1', 'r2', 'r3'].map((n) => recordReplicaOf(people[n])) }, causes);
  causes = l.decide('policy.change', { policy: { ...l.genesis.policy, rules: { ...l.genesis.policy.rules, 'node.admit': { delay_millis: 0, threshold: 1 } } } }, 'alice', 'bob');
  l.handover({ thresholds: { ...l.record.thresholds, 'node.admit': 1 } }, causes);
  l.nonced('record', 'dave', { text: 'the last word' });
  l.seal();
  return l;
}

const ledger = story();
const verify = (l, files) => verifyExport(source(files), l.hash);
const refused = (l, files, message) => assert.rejects(verify(l, files), (e) => e instanceof Refused && message.test(e.message));

test('an export verifies', async () => {
  const report = await verify(ledger, ledger.export());
  assert.equal(report.size, ledger.size);
  assert.equal(report.authority, 3);
  assert.deepEqual(report.cosigners, ['r1', 'r2', 'r3']);
  assert.equal(report.statements, 12);
});

test('a governor is seated again under the same key, and not under one that ended', async () => {
  const l = new MadeLedger();
  const north = { ...memberOf(people.carol), operator: 'north' };
  let causes = l.decide('council.change', { add: [north], remove: ['carol'] }, 'alice', 'bob');
  l.handover({ council: [...['alice', 'bob'].map((n) => memberOf(people[n])), north] }, causes);
  l.nonced('record', 'carol', { text: 'here again' });
  l.seal();
  await verify(l, l.export());
  causes = l.decide('council.change', { remove: ['carol'] }, 'alice', 'bob');
  l.handover({ council: ['alice', 'bob'].map((n) => memberOf(people[n])) }, causes);
  causes = l.decide('council.change', { add: [north] }, 'alice', 'bob');
  l.handover({ council: [...['alice', 'bob'].map((n) => memberOf(people[n])), north] }, causes);
  l.seal();
  await refused(l, l.export(), /was used before/);
});

test('a byte flipped anywhere is found, and the entry named', async () => {
  for (const name of ledger.export().keys()) {
    const files = ledger.export();
    const bytes = files.get(name).slice();
    bytes[Math.floor(bytes.length * 0.6)] ^= 1;
    files.set(name, bytes);
    await refused(ledger, files, name.startsWith('tile/entries') || name === 'entries.jsonl' ? /^entry \d+: / : /./);
  }
});

test('a missing file is found', async () => {
  for (const name of ledger.export().keys()) {
    const files = ledger.export();
    files.delete(name);
    await refused(ledger, files, /missing|lines for|not in the log|links|0\.json|authority|certified/);
  }
});

// Whole verification takes a while, and lines are looked at last.
const lines = ledger.entries.map((e) => ledger.line(e));
const check = (changed) => checkLines(source(new Map([['entries.jsonl', concat(...changed)]])), { lines: lines.map((l) => H(l)) }, ledger.leaves);
const refusedLine = (changed, message) => assert.rejects(check(changed), (e) => e instanceof Refused && message.test(e.message));

const replaced = (all, i, line) => [...all.slice(0, i), line, ...all.slice(i + 1)];

test('a byte flipped anywhere in a line is found', async () => {
  await check(lines);
  for (let at = 0; at < lines[2].length; at += 5) {
    const flipped = lines[2].slice();
    flipped[at] ^= 1;
    await refusedLine(replaced(lines, 2, flipped), /^entry 2: entries\.jsonl: /);
  }
});

for (const [name, change, message] of [
  ['dropped', (l) => [...l.slice(0, 4), ...l.slice(5)], /^entry 4: entries\.jsonl/],
  ['twice', (l) => [...l.slice(0, 5), ...l.slice(4)], /^entry 5: entries\.jsonl/],
  ['in the place of the next', (l) => [...l.slice(0, 5), l[6], l[5], ...l.slice(7)], /^entry 5: entries\.jsonl/],
  ['missing at the end', (l) => l.slice(0, -1), /lines for/],
  ['too many', (l) => [...l, l[0]], /beyond the checkpoint/],
  ['that is empty, at the end', (l) => [...l, utf8('\n')], /beyond the checkpoint/],
  ['without its line feed', (l) => [...l.slice(0, -1), l.at(-1).slice(0, -1)], /entries\.jsonl/],
  ['with a carriage return', (l) => [utf8('\r'), ...l], /^entry 0: entries\.jsonl/],
  ['with a byte order mark', (l) => [utf8('\ufeff'), ...l], /^entry 0: entries\.jsonl/],
]) test(`a line ${name} is found`, () => refusedLine(change(lines), message));

// former is a line as earlier programs wrote it.
const former = (line, entry) => concat(`{"entry":"${base64url(entry)}"`, line.subarray(line.indexOf(0x2c)));

test('the lines of a former export are taken, and checked', async () => {
  const before = lines.map((line, i) => former(line, ledger.entries[i]));
  await check(before);
  await check([...before.slice(0, 3), ...lines.slice(3)]);
  await refusedLine(replaced(before, 3, former(lines[3], ledger.entries[4])), /^entry 3: entries\.jsonl: its entry is another one/);
  await refusedLine(replaced(before, 3, former(lines[4], ledger.entries[3])), /^entry 3: entries\.jsonl/);
  await refusedLine(replaced(before, 0, utf8('{"entry":"AAAA,\n')), /^entry 0: entries\.jsonl: its entry has no end/);
});

test('a file that does not belong is refused', async () => {
  for (const name of ['notes.txt', 'proofs/1.txt', 'proofs/01.cose', 'authority/7.json', 'other/checkpoint']) {
    await refused(ledger, ledger.export().set(name, utf8('x')), /does not belong|is missing/);
  }
});

test('a tile too many is found', async () => {
  const files = ledger.export();
  files.set('tile/0/001.p/3', new Uint8Array(96));
  await refused(ledger, files, /beyond the checkpoint/);
  files.delete('tile/0/001.p/3');
  files.set('tile/notes', utf8('x'));
  await refused(ledger, files, /no tile/);
});

test('too few cosigners do not certify', async () => {
  const files = ledger.export();
  files.set('checkpoint', utf8(ledger.checkpoint(['r1'])));
  await refused(ledger, files, /certified by 1 replicas, 2 are needed/);
  files.set('checkpoint', utf8(ledger.checkpoint(['r1', 'r2'])));
  await verify(ledger, files);
});

test('another genesis hash is not trusted', async () => {
  await assert.rejects(verifyExport(source(ledger.export()), new Uint8Array(32)), /not to the genesis hash/);
});

// Each tale makes a ledger whose hashes all agree and whose signatures all
// verify, with one thing said by somebody who may not say it.
for (const [name, tale, message] of [
  ['a stranger speaks', (l) => l.nonced('record', 'dave', { text: 'hello' }), /^entry 1: key .* is unknown/],
  ['a governor who left speaks', (l) => {
    const causes = l.decide('council.change', { remove: ['carol'] }, 'alice', 'bob');
    l.handover({ council: ['alice', 'bob'].map((n) => memberOf(people[n])) }, causes);
    l.nonced('record', 'carol', { text: 'still here' });
  }, /is no longer its key/],
  ['a node that was not admitted speaks', (l) => {
    l.nonced('join', 'edge-1', { name: 'edge-1', operator: 'south', peer: base64url(new Uint8Array(32)), public: people['edge-1'].public });
    l.state('record', 'edge-1', { text: 'here' }, { epoch: 0, seq: 0 });
  }, /is unknown/],
  ['a replica proposes', (l) => l.nonced('propose', 'r1', { action: 'epoch.advance', args: {}, base: {} }), /makes no propose/],
  ['an approval too few', (l) => {
    const causes = l.decide('replica.remove', { name: 'r4' }, 'alice');
    l.handover({ replicas: ['r1', 'r2', 'r3'].map((n) => recordReplicaOf(people[n])) }, causes);
  }, /1 of 2 approvals/],
  ['two voices of one operator', (l) => {
    let causes = l.decide('council.change', { add: [memberOf(people.dave)] }, 'alice', 'bob');
    l.handover({ council: ['alice', 'bob', 'carol', 'dave'].map((n) => memberOf(people[n])) }, causes);
    causes = l.decide('replica.remove', { name: 'r4' }, 'alice', 'dave');
    l.handover({ replicas: ['r1', 'r2', 'r3'].map((n) => recordReplicaOf(people[n])) }, causes);
  }, /1 of 2 approvals/],
  ['a record that says more than was decided', (l) => {
    const causes = l.decide('replica.remove', { name: 'r4' }, 'alice', 'bob');
    l.handover({ replicas: ['r1', 'r2'].map((n) => recordReplicaOf(people[n])) }, causes);
  }, /not what the statements make/],
  ['a new replica that counts at once', (l) => {
    const causes = l.decide('replica.add', { replica: replica(people.r5) }, 'alice', 'bob');
    l.handover({ replicas: [...l.record.replicas, recordReplicaOf(people.r5)] }, causes, ['r1', 'r2', 'r3', 'r4']);
  }, /not what the statements make/],
  ['a handover that only the new replicas certify', (l) => {
    const causes = l.decide('replica.remove', { name: 'r4' }, 'alice', 'bob');
    l.handover({ replicas: ['r1', 'r2', 'r3'].map((n) => recordReplicaOf(people[n])) }, causes, ['r1', 'r2']);
  }, /under the authority before: .*certified by 2 replicas, 3 are needed/],
  ['a handover without a link', (l) => {
    l.decide('replica.remove', { name: 'r4' }, 'alice', 'bob');
    l.seal('handover', { handover: 1 });
  }, /no link/],
  ['an execution of what was not proposed', (l) => {
    l.append('effect', utf8(`{"body":{"action":"node.remove","proposal":"${base64url(new Uint8Array(32))}"},"causes":[],"type":"executed"}`));
  }, /not proposed/],
  ['a stamp that falls', (l) => {
    l.stamp -= 1000;
    l.nonced('record', 'alice', { text: 'yesterday' });
  }, /stamp falls/],
]) {
  test(name, async () => {
    const l = new MadeLedger();
    tale(l);
    l.seal();
    await refused(l, l.export(), message);
  });
}
