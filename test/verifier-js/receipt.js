// Transparent statements: FORMAT.md section 14, in the manner of SCITT.
import { Refused, concat, equal, hex } from './bytes.js';
import { Reader, byteString, textString } from './cbor.js';
import { keyID, parseOuter, verify65 } from './cose.js';
import { verifyInclusion } from './merkle.js';

const maxPath = 64;
const [receipts, vds, vdp] = [[0x19, 0x01, 0x8a], [0x19, 0x01, 0x8b], [0x19, 0x01, 0x8c]]; // 394, 395, 396
const protectedOf = (kid) => concat(Uint8Array.of(0xa3, 0x01, 0x38, 0x30, 0x04), byteString(kid), Uint8Array.of(...vds, 0x01));

/** parseTransparent gives the statement's envelope and the receipt in its unprotected header. */
export function parseTransparent(file) {
  const r = new Reader(file);
  r.literal(0xd2, 0x84);
  r.byteString();
  const before = file.subarray(0, r.at);
  r.literal(0xa1, ...receipts, 0x81);
  const receipt = parseReceipt(r.byteString());
  const envelope = concat(before, Uint8Array.of(0xa0), file.subarray(r.at));
  parseOuter(envelope);
  return { envelope, receipt };
}

function parseReceipt(b) {
  const r = new Reader(b);
  r.literal(0xd2, 0x84);
  const head = r.byteString();
  r.literal(0xa1, ...vdp, 0xa1, 0x20, 0x81);
  const p = new Reader(r.byteString());
  r.literal(0xf6);
  const signature = r.byteString();
  r.end();
  p.literal(0x83);
  const [size, seq, n] = [p.uint(), p.uint(), p.array()];
  if (n > maxPath) throw new Refused('receipt: the path is too long');
  const path = Array.from({ length: n }, () => p.byteString());
  p.end();
  if (path.some((h) => h.length !== 32)) throw new Refused('receipt: a hash is not 32 bytes');
  const kid = head.subarray(7, 39);
  if (kid.length !== 32 || !equal(head, protectedOf(kid))) throw new Refused('receipt: protected header is not {1: -49, 4: kid, 395: 1}');
  return { kid, size, seq, path, signature };
}

/**
 * verifyTransparent checks a transparent statement against an export:
 * entryOf(seq) is an entry of the tree, {leaf, content}, rootAt(size) the
 * tree's root at a size, replicasAt(size) who was an active replica then. It
 * gives the seq.
 */
export async function verifyTransparent(file, { entryOf, rootAt, replicasAt, size }) {
  const { envelope, receipt } = parseTransparent(file);
  if (receipt.size > size || receipt.seq >= receipt.size) throw new Refused(`receipt of entry ${receipt.seq} at size ${receipt.size} of ${size}`);
  const entry = await entryOf(receipt.seq);
  if (!equal(entry.content, envelope)) throw new Refused(`its statement is not that of entry ${receipt.seq}`);
  const root = rootAt(receipt.size);
  verifyInclusion(receipt.path, receipt.seq, receipt.size, entry.leaf, root);
  const signer = replicasAt(receipt.size).find((r) => equal(keyID(r.public), receipt.kid));
  if (!signer) throw new Refused(`receipt: key ${hex(receipt.kid)} is no active replica's at size ${receipt.size}`);
  const message = concat(Uint8Array.of(0x84), textString('Signature1'), byteString(protectedOf(receipt.kid)), byteString(new Uint8Array(0)), byteString(root));
  if (!verify65(signer.public, message, receipt.signature)) throw new Refused(`receipt: ${signer.name}'s signature does not verify`);
  return { seq: receipt.seq };
}
