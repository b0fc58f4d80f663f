// A folder on disk as the source of an export. The only module beside cli.js
// that needs Node.
import { createReadStream } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Refused, concat } from './bytes.js';

const feed = 0x0a;
const maxLineBytes = 1 << 20;

export function folder(dir) {
  const missing = (e) => {
    if (e.code === 'ENOENT' || e.code === 'ENOTDIR' || e.code === 'EISDIR') return undefined;
    throw e;
  };
  const list = async (name) => {
    const found = await readdir(join(dir, name), { withFileTypes: true }).catch(missing);
    const names = [];
    for (const f of found ?? []) {
      const path = name === '' ? f.name : `${name}/${f.name}`;
      if (f.isDirectory()) names.push(...(await list(path)));
      else if (f.isFile()) names.push(path);
      else throw new Refused(`${path} is no regular file`);
    }
    return names.sort();
  };
  return {
    list,
    async read(name) {
      const b = await readFile(join(dir, name)).catch(missing);
      return b && new Uint8Array(b.buffer, b.byteOffset, b.length);
    },
    async *lines(name) {
      let rest = new Uint8Array();
      try {
        for await (const chunk of createReadStream(join(dir, name))) {
          let begin = 0;
          for (let end; (end = chunk.indexOf(feed, begin)) >= 0; begin = end + 1) {
            yield concat(rest, chunk.subarray(begin, end + 1));
            rest = new Uint8Array();
          }
          rest = concat(rest, chunk.subarray(begin));
          if (rest.length > maxLineBytes) throw new Refused(`${name}: a line of more than ${maxLineBytes} bytes`);
        }
      } catch (e) {
        missing(e); // no lines at all
      }
      if (rest.length > 0) yield rest;
    },
  };
}
