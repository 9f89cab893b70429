import { useCallback, useEffect, useMemo, useState } from 'react';
import {
  browserLanguage,
  LANGUAGES,
  type Language,
  type Preferences,
  type Theme,
} from '../react/words/index';
import { lasting } from './memory';
import type { Memory } from './settings';

const LANGUAGE_KEY = 'opencall.language';
const THEME_KEY = 'opencall.theme';

interface Wanted {
  language: Language;
  theme: Theme;
}

/** `?lang=de&theme=dark`, what was chosen the last time, or what browser and system say. */
export function readPreferences(query: string, memory: Memory): Wanted {
  const parameters = new URLSearchParams(query);
  const language = parameters.get('lang') ?? memory.getItem(LANGUAGE_KEY) ?? '';
  const theme = parameters.get('theme') ?? memory.getItem(THEME_KEY) ?? '';
  return {
    language: language in LANGUAGES ? (language as Language) : browserLanguage(),
    theme: theme === 'light' || theme === 'dark' ? theme : 'auto',
  };
}

/** How this visitor wants the page; the document has the same. */
export function useOwnPreferences(): Preferences & Wanted {
  const [wanted, setWanted] = useState(() => readPreferences(location.search, lasting));
  useEffect(() => {
    document.documentElement.lang = wanted.language;
    document.documentElement.dataset.theme = wanted.theme;
  }, [wanted]);
  const change = useCallback((next: Partial<Wanted>) => {
    if (next.language) lasting.setItem(LANGUAGE_KEY, next.language);
    if (next.theme) lasting.setItem(THEME_KEY, next.theme);
    setWanted((before) => ({ ...before, ...next }));
  }, []);
  return useMemo(() => ({ ...wanted, change }), [wanted, change]);
}
