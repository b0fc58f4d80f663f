// The few shapes of deterministic CBOR (RFC 8949 section 4.2.1) that the
// ledger uses: unsigned and negative integers, strings, arrays and maps, all of
// definite and shortest length.
import { Refused, concat, text } from './bytes.js';

export const major = { uint: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6 };

export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  head(want) {
    if (this.at >= this.bytes.length) throw new Refused('CBOR ends early');
    const first = this.bytes[this.at];
    if (first >> 5 !== want) throw new Refused(`CBOR: item of another type at byte ${this.at}`);
    this.at++;
    const info = first & 31;
    if (info < 24) return info;
    if (info > 27) throw new Refused('CBOR: length is indefinite or reserved');
    const width = 1 << (info - 24);
    if (this.at + width > this.bytes.length) throw new Refused('CBOR ends early');
    let n = 0n;
    for (let i = 0; i < width; i++) n = (n << 8n) | BigInt(this.bytes[this.at + i]);
    if (n < [24n, 1n << 8n, 1n << 16n, 1n << 32n][info - 24]) throw new Refused('CBOR: integer or length not in its shortest form');
    if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw new Refused('CBOR: number above 2^53-1');
    this.at += width;
    return Number(n);
  }

  uint() {
    return this.head(major.uint);
  }

  array() {
    return this.head(major.array);
  }

  raw(n) {
    if (n > this.bytes.length - this.at) throw new Refused('CBOR ends early');
    const out = this.bytes.subarray(this.at, this.at + n);
    this.at += n;
    return out;
  }

  byteString() {
    return this.raw(this.head(major.bytes));
  }

  textString() {
    return text(this.raw(this.head(major.text)));
  }

  literal(...want) {
    for (const b of want) {
      if (this.bytes[this.at] !== b) throw new Refused(`CBOR: byte ${this.at} is not ${b.toString(16).padStart(2, '0')}`);
      this.at++;
    }
  }

  end() {
    if (this.at !== this.bytes.length) throw new Refused('bytes after the CBOR item');
  }
}

export function head(type, n) {
  const m = type << 5;
  if (n < 24) return Uint8Array.of(m | n);
  if (n < 0x100) return Uint8Array.of(m | 24, n);
  if (n < 0x10000) return Uint8Array.of(m | 25, n >> 8, n & 255);
  const wide = n >= 0x100000000;
  const out = new Uint8Array(wide ? 9 : 5);
  const view = new DataView(out.buffer);
  out[0] = m | (wide ? 27 : 26);
  if (wide) view.setBigUint64(1, BigInt(n));
  else view.setUint32(1, n);
  return out;
}

export const uint = (n) => head(major.uint, n);
export const byteString = (b) => concat(head(major.bytes, b.length), b);
export const textString = (s) => {
  const b = new TextEncoder().encode(s);
  return concat(head(major.text, b.length), b);
};
