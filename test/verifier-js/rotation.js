// Rotations of keys: FORMAT.md section 19.
import { ed25519 } from '@noble/curves/ed25519.js';
import { H, Refused, base64url, concat, utf8 } from './bytes.js';
import * as canon from './canon.js';
import { branchOf } from './checkpoint.js';
import { verify65 } from './cose.js';

/** rotationMessage is what the proofs of a rotation sign; branch is that of section 9. */
export function rotationMessage(branch, old, holder, body) {
  const plain = {};
  for (const field of ['cosigner', 'peer', 'public', 'tls_pin']) if (body[field]) plain[field] = base64url(body[field]);
  const name = utf8(holder);
  return concat('quorate/rotate/v1\n\0', branch, old, name.length, name, H(canon.encode(plain)));
}

/**
 * verifyPossession throws unless whoever made a rotation has the new keys. at is
 * the ledger and generation that it is for. A replica brings a cosigning key and a
 * TLS pin, a node a peer key with a proof of its own.
 */
export function verifyPossession(at, { author, body, kid }, role = 'replica') {
  const wants = { replica: ['cosigner', 'tls_pin'], node: ['peer', 'peer_proof'] };
  for (const [of, fields] of Object.entries(wants)) {
    for (const field of fields) if ((of === role) !== (body[field] !== undefined)) throw new Refused(`key.rotate of a ${role}: ${field}`);
  }
  const message = rotationMessage(branchOf(at), kid, author, body);
  if (!verify65(body.public, message, body.proof)) throw new Refused('proof: does not verify under the new key');
  if (role === 'node' && !verifies(body.peer_proof, message, body.peer)) throw new Refused('peer_proof: does not verify under the new peer key');
}

function verifies(signature, message, key) {
  try {
    return ed25519.verify(signature, message, key);
  } catch {
    return false; // a malformed key or signature
  }
}
