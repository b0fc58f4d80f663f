// Raft commands: FORMAT.md section 13. They are not part of the ledger; the
// vectors hold them so that two implementations agree on what is ordered.
import { Refused } from './bytes.js';
import * as cbor from './cbor.js';

const maxBundle = 512;
const statements = 1;

/** parseCommand gives {kind, stamp, statements}. */
export function parseCommand(b) {
  const r = new cbor.Reader(b);
  if (r.array() !== 4) throw new Refused('command is not an array of 4');
  if (r.uint() !== 1) throw new Refused('command of another version');
  const kind = r.uint();
  const stamp = r.uint();
  const n = r.array();
  if (n > maxBundle) throw new Refused(`bundle of ${n}`);
  const all = Array.from({ length: n }, () => r.byteString());
  r.end();
  if (kind < 1 || kind > 3) throw new Refused(`unknown kind ${kind}`);
  if ((kind === statements) !== (n > 0)) throw new Refused(`kind ${kind} with ${n} statements`);
  return { kind, stamp, statements: all };
}
