import { expect, test } from 'vitest';
import { de } from '../../src/react/words/de';
import { en } from '../../src/react/words/en';
import { explainError, LANGUAGES, pickLanguage, wordsOf } from '../../src/react/words/index';
import { MeetingError } from '../../src/sdk/index';

/** All there is to say, by its path. */
function flatten(table: object, path = ''): [string, unknown][] {
  return Object.entries(table).flatMap(([key, value]): [string, unknown][] =>
    typeof value === 'object' && value !== null
      ? flatten(value, `${path}${key}.`)
      : [[path + key, value]],
  );
}

/** What both languages write alike. */
const ALIKE = ['lobby.brand', 'devices.standard', 'controls.chat', 'chat.title', 'shortcuts.chat'];

const languages = Object.keys(LANGUAGES) as (keyof typeof LANGUAGES)[];

test.each(languages)('%s says everything that there is to say', (language) => {
  const wanted = flatten(en).map(([path]) => path);
  const said = flatten(wordsOf(language));
  expect(said.map(([path]) => path).sort()).toEqual(wanted.sort());
  for (const [path, value] of said) {
    const text = typeof value === 'function' ? sample(value as never) : value;
    expect(text, path).toMatch(/\S/);
    expect(text, path).not.toMatch(/undefined|NaN|\[object/);
  }
});

/** Messages are called with something of the kind that they take. */
function sample(message: (...args: unknown[]) => string): string {
  if (message.length > 1) return message(2, 3);
  const kinds = [['Ann', 'Ben', 'Cleo', 'Dan'], { source: 'camera', reason: 'why' }];
  for (const argument of kinds) {
    try {
      const text = message(argument);
      if (!text.includes('[object')) return text;
    } catch {
      // It takes something else.
    }
  }
  return '';
}

test('nothing was left in English', () => {
  const english = new Map(flatten(en));
  const same = flatten(de).filter(
    ([path, value]) => typeof value === 'string' && english.get(path) === value,
  );
  expect(same.map(([path]) => path).filter((path) => !ALIKE.includes(path))).toEqual([]);
});

test('the first language of the reader that there is', () => {
  expect(pickLanguage(['fr', 'de-AT', 'en'])).toBe('de');
  expect(pickLanguage(['EN-gb'])).toBe('en');
  expect(pickLanguage(['fr'])).toBe('en');
  expect(pickLanguage([])).toBe('en');
});

test('an error is said by its code, with what it is about', () => {
  const error = new MeetingError('device-missing', 'technical', { source: 'microphone' });
  expect(explainError(de, error)).toMatch(/^Kein Mikrofon gefunden/);
  expect(explainError(en, error)).toMatch(/^No microphone was found/);
  const away = new MeetingError('sent-away', 'technical', { reason: 'because' });
  expect(explainError(de, away)).toContain('because');
});
