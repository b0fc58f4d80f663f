// Shapes of decoded JSON: a shape checks a value and gives it with its byte
// fields as Uint8Array. Unknown fields are refused; a field marked optional
// must not be there with its zero value (FORMAT.md section 1).
import { Refused, unbase64url, within } from './bytes.js';

export const uint = (v) => {
  if (typeof v !== 'number') throw new Refused('want a number');
  return v;
};

export const string = (v) => {
  if (typeof v !== 'string') throw new Refused('want a string');
  return v;
};

export const bool = (v) => {
  if (typeof v !== 'boolean') throw new Refused('want true or false');
  return v;
};

export const any = (v) => v;

export const anyObject = (v) => {
  if (typeof v !== 'object' || Array.isArray(v)) throw new Refused('want an object');
  return v;
};

export const name = (v) => {
  if (!/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(string(v))) throw new Refused(`${JSON.stringify(v)} is no name`);
  return v;
};

export const oneOf = (...values) => (v) => {
  if (!values.includes(v)) throw new Refused(`${JSON.stringify(v)} is none of ${values.join(', ')}`);
  return v;
};

/** bytes of the given length, or of any. */
export const bytes = (length) => (v) => {
  const b = unbase64url(string(v));
  if (length !== undefined && b.length !== length) throw new Refused(`want ${length} bytes, got ${b.length}`);
  return b;
};

export const list = (shape, { min = 0, max } = {}) => (v) => {
  if (!Array.isArray(v)) throw new Refused('want a list');
  if (v.length < min) throw new Refused(`want at least ${min} items`);
  if (max !== undefined && v.length > max) throw new Refused(`want at most ${max} items`);
  return v.map((item, i) => within(`[${i}]`, () => shape(item)));
};

export const map = (shape) => (v) => {
  const out = Object.create(null);
  for (const k of Object.keys(anyObject(v))) out[k] = within(k, () => shape(v[k]));
  return out;
};

/** sorted checks a list of objects with names. */
export const sorted = (shape) => (v) => {
  const items = list(shape)(v);
  for (let i = 1; i < items.length; i++) {
    if (!(items[i - 1].name < items[i].name)) throw new Refused(`[${i}]: not sorted by name, or one twice`);
  }
  return items;
};

/** A field that is left out when it has its zero value. */
export const optional = (shape) => ({ shape, zero: false });
/** A field that may be left out and is written with its zero value too. */
export const maybe = (shape) => ({ shape, zero: true });

const isZero = (v) =>
  v === 0 || v === '' || v === false || (typeof v === 'object' && Object.keys(v).length === 0);

export const object = (fields) => (v) => {
  anyObject(v);
  for (const k of Object.keys(v)) if (!Object.hasOwn(fields, k)) throw new Refused(`${k}: unknown field`);
  const out = Object.create(null);
  for (const [k, field] of Object.entries(fields)) {
    const shape = typeof field === 'function' ? field : field.shape;
    if (!(k in v)) {
      if (shape === field) throw new Refused(`${k}: missing`);
      continue;
    }
    if (shape !== field && !field.zero && isZero(v[k])) throw new Refused(`${k}: present with its zero value`);
    out[k] = within(k, () => shape(v[k]));
  }
  return out;
};
