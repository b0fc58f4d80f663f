#!/usr/bin/env node
// The command line of the verifier: exit 0 when everything holds, 1 when
// something does not, 2 for wrong usage.
import { readFile } from 'node:fs/promises';
import { Refused, unhex } from './bytes.js';
import { verifyExport } from './export.js';
import { folder } from './files.js';
import { verifyJoinPack } from './joinpack.js';
import { verifyProofFile } from './prooffile.js';
import { verifyVectors } from './vectors.js';

const usage = `usage: node cli.js export DIR --genesis HEX
       node cli.js proof FILE --genesis HEX
       node cli.js joinpack FILE --genesis HEX
       node cli.js vectors DIR`;

async function main([command, path, flag, genesis, ...rest]) {
  const trusts = ['export', 'proof', 'joinpack'].includes(command);
  if (!path || rest.length || (trusts ? flag !== '--genesis' || !/^[0-9a-f]{64}$/.test(genesis ?? '') : command !== 'vectors' || flag)) {
    console.error(usage);
    return 2;
  }
  try {
    console.log(await run(command, path, genesis));
    return 0;
  } catch (e) {
    if (!(e instanceof Refused)) throw e;
    console.error(`REFUSED: ${e.message}`);
    return 1;
  }
}

async function run(command, path, genesis) {
  if (command === 'vectors') return verifyVectors(folder(path));
  if (command === 'proof') {
    const r = verifyProofFile(new Uint8Array(await readFile(path)), unhex(genesis));
    const until = r.replica ? `signed on ${time(r.signed)}` : `certified at size ${r.size}, last signed ${time(r.signed)}`;
    return `VERIFIED: ${r.shows}, ${until}`;
  }
  if (command === 'joinpack') {
    const r = verifyJoinPack(new Uint8Array(await readFile(path)), unhex(genesis));
    return `VERIFIED: the head of size ${r.size}, endorsed by ${r.by.join(', ')} since ${time(r.endorsed / 1000)}`;
  }
  const r = await verifyExport(folder(path), unhex(genesis), { progress });
  return `VERIFIED: ${r.origin} complete to size ${r.size}, last signed ${time(r.signed)}
root ${r.root}, certified by ${r.cosigners.join(', ')} (${r.threshold} are needed), authority ${r.authority}
${r.statements} statements, ${r.effects} effects, ${r.seals} seals; effects and state digests are not derived again here`;
}

const time = (seconds) => new Date(seconds * 1000).toISOString();

function progress(done, size) {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${size} entries${done === size ? '\n' : ''}`);
}

process.exitCode = await main(process.argv.slice(2));
