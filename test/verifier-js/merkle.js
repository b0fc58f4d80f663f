// Trees: RFC 6962 over leaf hashes, and the layout of C2SP tlog-tiles.
import { H, Refused, concat, equal } from './bytes.js';

export const node = (left, right) => H(0x01, left, right);

/** Frontier takes leaf hashes one by one and gives the root at any size. */
export class Frontier {
  constructor() {
    this.size = 0;
    this.full = []; // roots of the full subtrees, largest first
  }

  push(leaf) {
    let at = leaf;
    for (let n = this.size; n % 2 === 1; n = Math.floor(n / 2)) at = node(this.full.pop(), at);
    this.full.push(at);
    this.size++;
  }

  root() {
    if (this.size === 0) return H();
    return this.full.reduceRight((right, left) => node(left, right));
  }
}

/** rootOf is the root of a list of leaf hashes. */
export function rootOf(leaves) {
  const f = new Frontier();
  for (const l of leaves) f.push(l);
  return f.root();
}

const half = (n) => Math.floor(n / 2); // shifts would cut at 32 bits

/** verifyInclusion: RFC 9162 section 2.1.3.2. */
export function verifyInclusion(proof, index, size, leaf, root) {
  if (index >= size) throw new Refused(`index ${index} in a tree of ${size}`);
  let [fn, sn, at] = [index, size - 1, leaf];
  for (const p of proof) {
    if (sn === 0) throw new Refused('inclusion proof too long');
    if (fn % 2 === 1 || fn === sn) {
      at = node(p, at);
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      at = node(at, p);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0 || !equal(at, root)) throw new Refused('the inclusion proof does not lead to the root');
}

/** verifyConsistency: RFC 9162 section 2.1.4.2; old is at least 1. */
export function verifyConsistency(proof, oldSize, oldRoot, size, root) {
  if (oldSize < 1 || oldSize > size) throw new Refused(`consistency of ${oldSize} with ${size}`);
  if (oldSize === size) {
    if (proof.length || !equal(oldRoot, root)) throw new Refused('two roots of one size');
    return;
  }
  const path = isPowerOfTwo(oldSize) ? [oldRoot, ...proof] : proof;
  if (path.length === 0) throw new Refused('consistency proof too short');
  let [fn, sn] = [oldSize - 1, size - 1];
  while (fn % 2 === 1) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [path[0], path[0]];
  for (const c of path.slice(1)) {
    if (sn === 0) throw new Refused('consistency proof too long');
    if (fn % 2 === 1 || fn === sn) {
      [fr, sr] = [node(c, fr), node(c, sr)];
      while (fn % 2 === 0 && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = node(sr, c);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  if (sn !== 0 || !equal(fr, oldRoot) || !equal(sr, root)) throw new Refused('the consistency proof does not lead to the roots');
}

function isPowerOfTwo(n) {
  while (n > 1 && n % 2 === 0) n /= 2;
  return n === 1;
}

const width = 256;

/** tilePath is tile/<level>/<index>[.p/<width>]; level may be "entries". */
export function tilePath(level, index, partial = 0) {
  let s = String(index % 1000).padStart(3, '0');
  for (let n = Math.floor(index / 1000); n > 0; n = Math.floor(n / 1000)) s = `x${String(n % 1000).padStart(3, '0')}/${s}`;
  return `tile/${level}/${s}${partial ? `.p/${partial}` : ''}`;
}

/** tilesOf lists the tiles of one level of a tree: [{path, index, width}]. */
export function tilesOf(level, size) {
  const hashes = level === 'entries' ? size : Math.floor(size / width ** level);
  const full = Math.floor(hashes / width);
  const tiles = [];
  for (let i = 0; i < full; i++) tiles.push({ path: tilePath(level, i), index: i, width });
  if (hashes % width) tiles.push({ path: tilePath(level, full, hashes % width), index: full, width: hashes % width });
  return tiles;
}

/** tileLevels gives, from leaf hashes, the hashes of each level of tiles. */
export function tileLevels(leaves) {
  const levels = [];
  for (let row = leaves; row.length > 0; ) {
    levels.push(row);
    const next = [];
    for (let i = 0; i + width <= row.length; i += width) next.push(rootOf(row.slice(i, i + width)));
    row = next;
  }
  return levels;
}

/** parseBundle reads the entries of an entry bundle. */
export function parseBundle(b) {
  const entries = [];
  for (let at = 0; at < b.length; ) {
    if (at + 2 > b.length) throw new Refused('entry bundle ends early');
    const n = (b[at] << 8) | b[at + 1];
    if (at + 2 + n > b.length) throw new Refused('entry bundle ends early');
    entries.push(b.subarray(at + 2, at + 2 + n));
    at += 2 + n;
  }
  return entries;
}

export const tileBytes = (hashes) => concat(...hashes);
