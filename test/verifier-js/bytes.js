// Bytes: hashing, joining, and the encodings of FORMAT.md's first lines.
import { sha256 } from '@noble/hashes/sha2.js';

/**
 * Refused is thrown for everything that does not verify; nothing else is. The
 * code tells apart why a checkpoint does not: malformed, short, bad_signature,
 * other_origin.
 */
export class Refused extends Error {
  constructor(message, { cause, code = cause?.code ?? 'malformed' } = {}) {
    super(message, { cause });
    this.name = 'Refused';
    this.code = code;
  }
}

/** within gives a refusal its place: "entry 7: author: …". */
export function within(place, fn) {
  try {
    return fn();
  } catch (e) {
    if (e instanceof Refused) throw new Refused(`${place}: ${e.message}`, { cause: e });
    throw e;
  }
}

export const H = (...parts) => sha256(concat(...parts));

export function concat(...parts) {
  const all = parts.map((p) => (typeof p === 'number' ? Uint8Array.of(p) : typeof p === 'string' ? utf8(p) : p));
  const out = new Uint8Array(all.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of all) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export function equal(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export const utf8 = (s) => new TextEncoder().encode(s);

export function text(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused('not UTF-8');
  }
}

const hexDigits = '0123456789abcdef';

export function hex(bytes) {
  let s = '';
  for (const b of bytes) s += hexDigits[b >> 4] + hexDigits[b & 15];
  return s;
}

export function unhex(s) {
  if (typeof s !== 'string' || s.length % 2 || !/^[0-9a-f]*$/.test(s)) throw new Refused('not lower-case hex');
  return Uint8Array.from({ length: s.length / 2 }, (_, i) => parseInt(s.slice(2 * i, 2 * i + 2), 16));
}

const standard = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const urlSafe = standard.replace('+/', '-_');

function encode64(bytes, alphabet) {
  let s = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const left = Math.min(3, bytes.length - i);
    const n = (bytes[i] << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    for (let j = 0; j <= left; j++) s += alphabet[(n >> (18 - 6 * j)) & 63];
  }
  return s;
}

function tableOf(alphabet) {
  const table = new Int16Array(128).fill(-1);
  for (let i = 0; i < 64; i++) table[alphabet.charCodeAt(i)] = i;
  return table;
}

const urlSafeTable = tableOf(urlSafe);
const standardTable = tableOf(standard);

// One byte string has one encoding: unused bits are zero, nothing is skipped.
function decode64(s, table) {
  if (s.length % 4 === 1) throw new Refused('not base64: wrong length');
  const out = new Uint8Array(Math.floor((s.length * 3) / 4));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (let i = 0; i < s.length; i++) {
    const code = s.charCodeAt(i);
    const value = code < 128 ? table[code] : -1;
    if (value < 0) throw new Refused('not base64: wrong character');
    held = ((held << 6) | value) & 0xfff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out[at++] = (held >> bits) & 255;
    }
  }
  if (held & ((1 << bits) - 1)) throw new Refused('not base64: unused bits set');
  return out;
}

export const base64url = (bytes) => encode64(bytes, urlSafe);
export const unbase64url = (s) => decode64(s, urlSafeTable);

/** Padded standard base64, as signed notes use. */
export function base64(bytes) {
  const s = encode64(bytes, standard);
  return s + '='.repeat((4 - (s.length % 4)) % 4);
}

export function unbase64(s) {
  if (s.length % 4) throw new Refused('not base64: wrong length');
  return decode64(s.replace(/={1,2}$/, ''), standardTable);
}

export function u16(n) {
  return Uint8Array.of(n >> 8, n & 255);
}

export function u64(n) {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(n));
  return out;
}

/** readU64 gives a number; those above 2^53-1 are refused, never rounded. */
export function readU64(bytes, at = 0) {
  const n = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getBigUint64(at);
  if (n > BigInt(Number.MAX_SAFE_INTEGER)) throw new Refused('number above 2^53-1');
  return Number(n);
}
