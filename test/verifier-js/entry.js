// Entries: FORMAT.md section 5.
import { H, Refused, concat } from './bytes.js';
import * as canon from './canon.js';
import * as cbor from './cbor.js';
import { bytes, list, anyObject, object, oneOf, optional, string, uint } from './shape.js';

export const maxEntryBytes = 65535;
export const kinds = ['genesis', 'statement', 'effect', 'seal'];

/** parseEntry gives {seq, stamp, prev, kind, content}; kind is its name. */
export function parseEntry(b) {
  if (b.length > maxEntryBytes) throw new Refused(`entry of ${b.length} bytes`);
  const r = new cbor.Reader(b);
  if (r.array() !== 6) throw new Refused('entry is not an array of 6');
  const version = r.uint();
  if (version !== 1) throw new Refused(`entry of version ${version}`);
  const entry = { seq: r.uint(), stamp: r.uint(), prev: r.byteString() };
  const kind = r.uint();
  entry.content = r.byteString();
  r.end();
  if (entry.prev.length !== 32) throw new Refused('prev is not 32 bytes');
  if (kind >= kinds.length) throw new Refused(`unknown kind ${kind}`);
  entry.kind = kinds[kind];
  if ((entry.kind === 'genesis') !== (entry.seq === 0)) throw new Refused('entry 0, and only it, is genesis');
  return entry;
}

export function encodeEntry({ seq, stamp, prev, kind, content }) {
  return concat(
    Uint8Array.of(0x86, 0x01), cbor.uint(seq), cbor.uint(stamp), cbor.byteString(prev),
    cbor.uint(kinds.indexOf(kind)), cbor.byteString(content),
  );
}

/** leafHash is also the chain hash. */
export const leafHash = (entry) => H(0x00, entry);

const sealShape = object({
  digest: bytes(32), epoch: uint, handover: optional(uint), reason: oneOf('routine', 'urgent', 'handover'),
});

export function seal(entry) {
  if (entry.kind !== 'seal') throw new Refused(`entry ${entry.seq} is no seal`);
  const s = sealShape(canon.decode(entry.content));
  if ((s.reason === 'handover') !== (s.handover !== undefined)) throw new Refused('reason and handover disagree');
  return s;
}

const effectShape = object({ body: anyObject, causes: list(uint), type: string });

export function effect(entry) {
  if (entry.kind !== 'effect') throw new Refused(`entry ${entry.seq} is no effect`);
  return effectShape(canon.decode(entry.content));
}
