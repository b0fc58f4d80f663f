// Backup files: FORMAT.md section 19. What such a file says of itself, without opening anything.
import { H, Refused, text, unbase64url, within } from './bytes.js';
import * as canon from './canon.js';
import { bytes, list, name, object, oneOf, optional, uint } from './shape.js';

const maxBytes = 256 << 10;
const maxSealed = 8 << 10;
const lineFeed = 0x0a;

const shape = object({
  ciphertext: bytes(), holder: name, key: bytes(32), ledger: bytes(32), recipients: optional(list(bytes(32), { max: 256 })), role: name, set: bytes(16),
  shares: list(object({ holder: name, recipient: bytes(32), sealed: bytes(), share: bytes(32) }), { max: 24 }), threshold: uint, type: oneOf('quorate/backup.v1'),
});

/** parseBackup reads a backup file, and compares the header of its ciphertext with what stands beside it. */
export function parseBackup(file) {
  if (file.length > maxBytes || file.at(-1) !== lineFeed) throw new Refused('not canonical JSON with one line feed, or too large');
  const b = shape(canon.decode(file.subarray(0, -1)));
  const n = b.shares.length;
  if (b.threshold < 2 || b.threshold > n) throw new Refused(`${b.threshold} of ${n} shares`);
  for (let i = 0; i < n; i++) {
    if (i > 0 && !(b.shares[i - 1].holder < b.shares[i].holder)) throw new Refused('the shares are not sorted by holder, one each');
    if (b.shares[i].sealed.length > maxSealed) throw new Refused(`share ${i} is too large`);
  }
  const stanzas = within('ciphertext', () => ageStanzas(b.ciphertext));
  const split = stanzas.filter(([type]) => type === 'quorate-shares');
  if (split.length !== 1) throw new Refused(`${split.length} stanzas quorate-shares`);
  const [, version, set, k, of] = split[0];
  const same = split[0].length === 5 && version === '1' && k === String(b.threshold) && of === String(n) && samePadless(set, b.set);
  if (!same) throw new Refused('the ciphertext was split into other shares than the file says');
  const others = stanzas.length - 1;
  if (others !== (b.recipients ?? []).length) throw new Refused(`${others} further recipients`);
  return { ...b, hash: H(b.ciphertext) };
}

function samePadless(encoded, want) {
  const got = unbase64url(encoded.replaceAll('+', '-').replaceAll('/', '_'));
  return got.length === want.length && got.every((x, i) => x === want[i]);
}

// ageStanzas gives type and arguments of each stanza of an age header (age-encryption.org/v1).
function ageStanzas(ciphertext) {
  let at = 0;
  const line = () => {
    const end = ciphertext.indexOf(lineFeed, at);
    if (end < 0) throw new Refused('its header has no end');
    const found = text(ciphertext.subarray(at, end));
    at = end + 1;
    return found;
  };
  if (line() !== 'age-encryption.org/v1') throw new Refused('it is no age file');
  const stanzas = [];
  for (let next = line(); !next.startsWith('--- '); next = line()) {
    if (!next.startsWith('-> ')) throw new Refused('a line of its header is no stanza');
    stanzas.push(next.slice(3).split(' '));
    while (line().length === 64); // its body; the last line is shorter
  }
  return stanzas;
}
