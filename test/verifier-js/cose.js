// Statements: FORMAT.md section 3. The envelope has one encoding, so it is
// read against a fixed pattern rather than by a general COSE decoder.
import { ml_dsa65 } from '@noble/post-quantum/ml-dsa.js';
import { H, Refused, concat, equal } from './bytes.js';
import * as canon from './canon.js';
import * as cbor from './cbor.js';
import { anyObject, bytes, list, map, maybe, name, object, optional, string, uint } from './shape.js';

export const publicKeyBytes = 1952;
const signatureBytes = 3309;
const maxPayloadBytes = 32768;

/** parseEnvelope reads one COSE_Sign1: {kid, typ, raw payload, signature, signed bytes, id}. */
export function parseEnvelope(b) {
  const r = new cbor.Reader(b);
  const envelope = readEnvelope(r);
  r.end();
  return envelope;
}

/** parseBundle reads a CBOR sequence (RFC 8742) of envelopes. */
export function parseBundle(b) {
  const r = new cbor.Reader(b);
  const all = [];
  while (r.at < b.length) all.push(readEnvelope(r));
  return all;
}

function readEnvelope(r) {
  r.literal(0xd2, 0x84);
  const header = r.byteString();
  r.literal(0xa0);
  const payload = r.byteString();
  if (payload.length < 1 || payload.length > maxPayloadBytes) throw new Refused(`payload of ${payload.length} bytes`);
  r.literal(0x59, 0x0c, 0xed);
  const signature = r.raw(signatureBytes);
  const { kid, typ } = parseHeader(header);
  const signed = concat(Uint8Array.of(0x84), cbor.textString('Signature1'), cbor.byteString(header), Uint8Array.of(0x40), cbor.byteString(payload));
  return { kid, typ, raw: payload, signature, signed, id: H(signed) };
}

// {1: -49, 4: key id, 16: typ}
function parseHeader(b) {
  const r = new cbor.Reader(b);
  r.literal(0xa3, 0x01, 0x38, 0x30, 0x04);
  const kid = r.byteString();
  r.literal(0x10);
  const typ = r.textString();
  r.end();
  if (kid.length !== 32) throw new Refused('kid is not 32 bytes');
  return { kid, typ };
}

const payloadShape = object({
  author: name, body: anyObject, epoch: maybe(uint), expires: optional(uint), generation: uint,
  ledger: bytes(32), nonce: optional(bytes(16)), seq: maybe(uint), type: string,
});

const ballot = object({ memo: optional(string), proposal: bytes(32) });

const bodies = {
  propose: object({ action: string, args: anyObject, base: map(uint), memo: optional(string) }),
  approve: ballot,
  reject: ballot,
  withdraw: ballot,
  veto: ballot,
  record: object({ digest: optional(bytes(32)), media: optional(string), name: optional(string), text: optional(string) }),
  join: object({ name, operator: name, peer: bytes(32), public: bytes(publicKeyBytes) }),
  ready: object({ format: uint, root: bytes(32), size: uint }),
  probe: object({ nonce: bytes(16), subject: name, tick: uint }),
  ack: object({ challenge: bytes(32), prober: name, tick: uint }),
  observe: object({ cause: optional(string), counter: uint, from: uint, kind: string, subject: name, to: uint }),
  evidence: object({ exhibits: list(bytes(), { min: 1, max: 2 }), kind: string, public: optional(bytes(publicKeyBytes)) }),
  attest: object({ epochs: list(object({ cause: optional(bytes()), clean: bytes(), epoch: uint })) }),
  'key.rotate': object({
    cosigner: optional(bytes(1312)), peer: optional(bytes(32)), peer_proof: optional(bytes(64)), proof: bytes(signatureBytes), public: bytes(publicKeyBytes), tls_pin: optional(bytes(32)),
  }),
  backup: object({
    ciphertext: bytes(32), key: bytes(32), recipients: optional(list(bytes(32))), set: bytes(16),
    shares: list(object({ holder: name, recipient: bytes(32), share: bytes(32) })), threshold: uint,
  }),
  'restore.test': object({ ciphertext: bytes(32), holders: list(name), key: bytes(32), outcome: string, purpose: string, reason: optional(string) }),
  'key.destroy': object({ ciphertext: optional(bytes(32)), key: bytes(32), reason: optional(string) }),
  recover: object({
    at: uint, generation: uint, head: object({ last: bytes(32), root: bytes(32), size: uint }), keep: list(name),
    memo: optional(string), new: optional(list(anyObject)), until: optional(uint),
  }),
};

const nonceForm = (p) => p.nonce !== undefined && p.epoch === undefined;
const seqForm = (p) => p.epoch !== undefined && p.nonce === undefined;
const noForm = (p) => p.nonce === undefined && p.epoch === undefined;
const replayForms = {
  propose: nonceForm, join: nonceForm, approve: noForm, reject: noForm, withdraw: noForm, veto: noForm, recover: noForm,
  ready: seqForm, probe: seqForm, ack: seqForm, observe: seqForm, attest: seqForm, 'key.rotate': seqForm,
  record: (p) => nonceForm(p) || seqForm(p), evidence: (p) => nonceForm(p) || seqForm(p),
  backup: (p) => nonceForm(p) || seqForm(p), 'restore.test': (p) => nonceForm(p) || seqForm(p), 'key.destroy': (p) => nonceForm(p) || seqForm(p),
};

/** parseStatement checks everything that needs no state but the signature. */
export function parseStatement(b) {
  const statement = parseOuter(b);
  const body = bodies[statement.type](statement.body);
  if (statement.type === 'join') checkJoin(statement, body);
  return { ...statement, body };
}

/** parseOuter is parseStatement without a look into the body. */
export function parseOuter(b) {
  const envelope = parseEnvelope(b);
  const payload = payloadShape(canon.decode(envelope.raw));
  const { type } = payload;
  if (!Object.hasOwn(bodies, type)) throw new Refused(`unknown statement type ${JSON.stringify(type)}`);
  if (envelope.typ !== `quorate/${type}.v1`) throw new Refused(`typ is ${envelope.typ}, the payload says ${type}`);
  if ((payload.nonce === undefined) !== (payload.expires === undefined)) throw new Refused('nonce and expires go together');
  if ((payload.epoch === undefined) !== (payload.seq === undefined)) throw new Refused('epoch and seq go together');
  if (!replayForms[type](payload)) throw new Refused(`a ${type} has another replay form`);
  return { ...envelope, ...payload };
}

function checkJoin({ author, kid }, body) {
  if (author !== body.name) throw new Refused('a join is by the node that joins');
  if (!equal(kid, keyID(body.public))) throw new Refused('a join is signed by the key that it holds');
}

export const keyID = (publicKey) => H(publicKey);

/** verifySignature throws unless statement was signed by publicKey. */
export function verifySignature(statement, publicKey) {
  if (!equal(statement.kid, keyID(publicKey))) throw new Refused('kid is not the id of the key');
  if (!verify65(publicKey, statement.signed, statement.signature)) throw new Refused('the signature does not verify');
}

/** verify65 is ML-DSA-65 verification (FIPS 204, pure, empty context). */
export function verify65(publicKey, message, signature) {
  if (publicKey.length !== publicKeyBytes || signature.length !== signatureBytes) return false;
  try {
    return ml_dsa65.verify(signature, message, publicKey);
  } catch {
    return false; // a malformed key or signature
  }
}
