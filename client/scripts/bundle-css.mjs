// Writes lib/meeting.css: one file, with what src/react/meeting.css imports in the place of the imports.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const entry = 'src/react/meeting.css';

function inline(path) {
  return readFileSync(path, 'utf8').replace(/^@import "(.+)";$/gm, (_, file) =>
    inline(join(dirname(path), file)),
  );
}

const css = inline(entry);
if (css.includes('@import')) throw new Error(`${entry}: an import was not understood`);
writeFileSync('lib/meeting.css', css);
