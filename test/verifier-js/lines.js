// The lines of entries.jsonl: FORMAT.md section 12. Each has one form, put
// together from bytes that the entry holds.
import { Refused, concat, equal, hex, text, unbase64url } from './bytes.js';
import { leafHash } from './entry.js';

const feed = '}\n';

/** lineOf gives an entry's line. Of a statement it wants what it parsed to. */
export function lineOf(bytes, leaf, entry, statement) {
  const lead = `{"bytes":${bytes.length},"hash":"${hex(leaf)}","kind":"${entry.kind}","seq":${entry.seq},"stamp":${entry.stamp},"view":`;
  if (!statement) return concat(lead, entry.content, feed);
  return concat(lead, `{"id":"${hex(statement.id)}","key":"${hex(statement.kid)}","payload":`, statement.raw, '}', feed);
}

const former = '{"entry":"';

/**
 * asWritten gives a line of a former export, which repeats the entry in place
 * of its length, as lineOf would have it; any other as it is.
 */
export function asWritten(line, leaf) {
  const cut = line.indexOf(0x2c); // base64url has no comma
  const lead = cut < 0 ? '' : String.fromCharCode(...line.subarray(0, former.length));
  if (lead !== former) return line;
  if (line[cut - 1] !== 0x22) throw new Refused('its entry has no end');
  const entry = unbase64url(text(line.subarray(former.length, cut - 1)));
  if (!equal(leafHash(entry), leaf)) throw new Refused('its entry is another one');
  return concat(`{"bytes":${entry.length}`, line.subarray(cut));
}
