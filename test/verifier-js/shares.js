// Shares of a file key: FORMAT.md section 19, Shamir's scheme over the scalars of
// Ristretto255.
import { H, Refused } from './bytes.js';

const order = 2n ** 252n + 27742317777372353535851937790883648493n;
const mod = (x) => ((x % order) + order) % order;

/** shareHash is how the ledger names a share. */
export const shareHash = ({ set, index, value }) => H('quorate/share/v1\n\0', set, index, value);

function number(littleEndian) {
  let x = 0n;
  for (const b of littleEndian.toReversed()) x = (x << 8n) | BigInt(b);
  return x;
}

function inverse(x) {
  let [a, b, u, v] = [mod(x), order, 1n, 0n];
  while (a !== 0n) [a, b, u, v] = [b % a, a, v - (b / a) * u, u];
  return mod(v);
}

// at gives the value at x of the polynomial through points.
function at(x, points) {
  let sum = 0n;
  for (const p of points) {
    let [over, under] = [1n, 1n];
    for (const q of points) {
      if (q === p) continue;
      over = mod(over * (x - q.x));
      under = mod(under * (p.x - q.x));
    }
    sum = mod(sum + p.y * over * inverse(under));
  }
  return sum;
}

/** combine gives the file key that at least threshold shares stand for. */
export function combine(threshold, shares) {
  const points = shares.map(({ index, value }) => ({ x: BigInt(index), y: number(value) }));
  if (new Set(shares.map((s) => s.index)).size < shares.length || points.some((p) => p.x === 0n || p.y >= order)) throw new Refused('a share twice, or none');
  if (points.length < threshold) throw new Refused(`${points.length} shares of ${threshold}`);
  const first = points.slice(0, threshold);
  if (points.slice(threshold).some((p) => at(p.x, first) !== p.y)) throw new Refused('the shares do not fit together');
  let secret = at(0n, first);
  if (secret >> 128n) throw new Refused('the shares do not fit together');
  const fileKey = new Uint8Array(16);
  for (let i = 0; i < 16; i++, secret >>= 8n) fileKey[i] = Number(secret & 255n);
  return fileKey;
}
