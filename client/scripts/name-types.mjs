// Gives relative imports of the package's type declarations the names of their files, as ECMAScript modules need them.
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const root = join(import.meta.dirname, '../lib/types');

for (const name of readdirSync(root, { recursive: true })) {
  const file = join(root, name);
  if (!name.endsWith('.d.ts') || !statSync(file).isFile()) continue;
  const text = readFileSync(file, 'utf8').replace(
    /((?:from|import)\s*\(?\s*['"])(\.[^'"]*)(['"])/g,
    (_, before, path, after) => `${before}${nameOf(file, path)}${after}`,
  );
  writeFileSync(file, text);
}

function nameOf(from, path) {
  const target = join(dirname(from), path);
  if (existsSync(`${target}.d.ts`)) return `${path}.js`;
  if (existsSync(join(target, 'index.d.ts'))) return `${path}/index.js`;
  throw new Error(`${from} imports ${path}, of which there is no declaration`);
}
