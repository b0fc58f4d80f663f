// A folder on disk as the source of an export. The only module beside cli.js
// that needs Node.
import { createReadStream } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export function folder(dir) {
  const missing = (e) => {
    if (e.code === 'ENOENT' || e.code === 'ENOTDIR' || e.code === 'EISDIR') return undefined;
    throw e;
  };
  const list = async (name) => {
    const found = await readdir(join(dir, name), { withFileTypes: true }).catch(missing);
    const names = [];
    for (const f of found ?? []) {
      const path = `${name}/${f.name}`;
      if (f.isDirectory()) names.push(...(await list(path)));
      else names.push(path);
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
      // Not readline, which takes U+2028 inside a string for the end of a line.
      const decoder = new TextDecoder();
      let rest = '';
      for await (const chunk of createReadStream(join(dir, name))) {
        const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
        rest = lines.pop();
        yield* lines;
      }
      if (rest !== '') yield rest;
    },
  };
}
