// The twelve words of a 32-byte value: FORMAT.md section 2.
import { entropyToMnemonic } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';

export const words = (value) => entropyToMnemonic(value.subarray(0, 16), wordlist);
