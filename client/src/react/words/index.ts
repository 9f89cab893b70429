import { createContext, useContext } from 'react';
import type { MeetingError } from '../../sdk/index';
import { de } from './de';
import { en } from './en';

/** What the component says, in one language; what a language lacks fails the type check. */
export type Words = typeof en;

/** Languages that are complete. */
export const LANGUAGES = { en: 'English', de: 'Deutsch' } as const;

export type Language = keyof typeof LANGUAGES;

const TABLES: Record<Language, Words> = { en, de };

export const wordsOf = (language: Language): Words => TABLES[language];

/** The first of the reader's languages that there is. */
export function pickLanguage(wanted: readonly string[]): Language {
  for (const tag of wanted) {
    const language = tag.toLowerCase().split('-')[0] ?? '';
    if (language in LANGUAGES) return language as Language;
  }
  return 'en';
}

/** As the browser is set; English where there is none. */
export function browserLanguage(): Language {
  return pickLanguage(globalThis.navigator?.languages ?? []);
}

export type Theme = 'auto' | 'light' | 'dark';

/** How the reader wants it. */
export interface Preferences {
  /** The browser's, if left out. */
  language?: Language;
  /** The system's, if left out. */
  theme?: Theme;
  /** Where it is there, people can choose in the meeting. */
  change?: (wanted: { language?: Language; theme?: Theme }) => void;
}

/** For everything below in the tree. */
export const PreferencesContext = createContext<Preferences>({});

export function usePreferences(): Preferences & { language: Language; theme: Theme } {
  const preferences = useContext(PreferencesContext);
  const { language = browserLanguage(), theme = 'auto' } = preferences;
  return { ...preferences, language, theme };
}

export function useWords(): Words {
  return wordsOf(usePreferences().language);
}

/** An error in the reader's language. */
export function explainError(words: Words, { code, facts }: MeetingError): string {
  return words.errors[code](facts);
}
