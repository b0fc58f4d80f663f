// The canonical JSON of FORMAT.md section 1: decode strictly, encode again,
// compare bytes. Objects have no prototype, so that "__proto__" is a key like
// any other.
import { Refused, equal, text, utf8 } from './bytes.js';

const maxDepth = 32;

/** decode gives the one value that bytes encode, or throws Refused. */
export function decode(bytes) {
  const value = new Reader(text(bytes)).whole();
  if (!equal(utf8(encode(value)), bytes)) throw new Refused('not canonical: it encodes to other bytes');
  return value;
}

/** encode gives the canonical text of value. */
export function encode(value) {
  switch (typeof value) {
    case 'boolean':
      return String(value);
    case 'number':
      if (!Number.isSafeInteger(value) || value < 0) throw new Refused(`${value} is no integer from 0 to 2^53-1`);
      return String(value);
    case 'string':
      return encodeString(value);
  }
  if (Array.isArray(value)) return `[${value.map(encode).join(',')}]`;
  // Keys are ASCII, so the order of UTF-16 units is that of bytes.
  const keys = Object.keys(value).sort();
  return `{${keys.map((k) => `${encodeString(k)}:${encode(value[k])}`).join(',')}}`;
}

const short = { '"': '\\"', '\\': '\\\\', '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r' };

function encodeString(s) {
  // eslint-disable-next-line no-control-regex
  return `"${s.replace(/["\\\u0000-\u001f]/g, (c) => short[c] ?? `\\u00${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}"`;
}

class Reader {
  constructor(s) {
    this.s = s;
    this.at = 0;
  }

  whole() {
    const value = this.value(0);
    if (this.at !== this.s.length) this.refuse('bytes after the value');
    return value;
  }

  refuse(why) {
    throw new Refused(`not canonical: ${why} at character ${this.at}`);
  }

  take(token) {
    if (!this.s.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  expect(token) {
    if (!this.take(token)) this.refuse(`want ${token}`);
  }

  value(depth) {
    if (this.take('true')) return true;
    if (this.take('false')) return false;
    const c = this.s[this.at];
    if (c === '"') return this.string();
    if (c === '{' || c === '[') {
      if (depth === maxDepth) this.refuse(`more than ${maxDepth} levels`);
      return c === '{' ? this.object(depth + 1) : this.array(depth + 1);
    }
    return this.number();
  }

  number() {
    const digits = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;
    digits.lastIndex = this.at;
    const found = digits.exec(this.s);
    if (!found) this.refuse('no value');
    const n = Number(found[0]);
    if (!Number.isSafeInteger(n)) this.refuse('number above 2^53-1');
    this.at += found[0].length;
    return n;
  }

  string() {
    this.expect('"');
    let out = '';
    for (;;) {
      const plain = /[^"\\\u0000-\u001f]*/y; // eslint-disable-line no-control-regex
      plain.lastIndex = this.at;
      const run = plain.exec(this.s)[0];
      out += run;
      this.at += run.length;
      if (this.take('"')) return out;
      out += this.escape();
    }
  }

  escape() {
    for (const [c, code] of Object.entries(short)) if (this.take(code)) return c;
    const unit = /\\u00([01][0-9a-f])/y;
    unit.lastIndex = this.at;
    const found = unit.exec(this.s);
    if (!found) this.refuse('no character of a string');
    this.at += found[0].length;
    return String.fromCharCode(parseInt(found[1], 16));
  }

  array(depth) {
    this.expect('[');
    const out = [];
    if (this.take(']')) return out;
    do out.push(this.value(depth));
    while (this.take(','));
    this.expect(']');
    return out;
  }

  object(depth) {
    this.expect('{');
    const out = Object.create(null);
    if (this.take('}')) return out;
    let last;
    do {
      const key = this.string();
      if (!/^[\x20\x21\x23-\x5b\x5d-\x7e]*$/.test(key)) this.refuse('key is not printable ASCII');
      if (last !== undefined && !(last < key)) this.refuse('keys not sorted, or one twice');
      last = key;
      this.expect(':');
      out[key] = this.value(depth);
    } while (this.take(','));
    this.expect('}');
    return out;
  }
}
