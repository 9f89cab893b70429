import { useState } from 'react';
import { randomId } from '../sdk/randomId';
import { LANGUAGES, type Language, type Theme, usePreferences, useWords } from './words/index';

const THEMES: readonly Theme[] = ['auto', 'light', 'dark'];

/** Language and colours, where the reader can choose them. */
export function PreferenceChoices() {
  const words = useWords();
  const { language, theme, change } = usePreferences();
  if (!change) return null;
  return (
    <>
      <Choices
        title={words.devices.language}
        options={(Object.keys(LANGUAGES) as Language[]).map((key) => [key, LANGUAGES[key]])}
        chosen={language}
        onChoose={(next) => change({ language: next })}
      />
      <Choices
        title={words.devices.theme}
        options={THEMES.map((key) => [key, words.devices.themes[key]])}
        chosen={theme}
        onChoose={(next) => change({ theme: next })}
      />
    </>
  );
}

/** One of a few, all in sight. */
export function Choices<Key extends string>({
  title,
  options,
  chosen,
  onChoose,
}: {
  title: string;
  options: readonly (readonly [Key, string])[];
  chosen: Key;
  onChoose: (key: Key) => void;
}) {
  // Ids of React are the same for each of several roots on a page, where radio buttons would be one group.
  const [name] = useState(() => `oc-choice-${randomId()}`);
  return (
    <fieldset className="oc-group">
      <legend>{title}</legend>
      <div className="oc-choices">
        {options.map(([key, label]) => (
          <label key={key}>
            <input
              type="radio"
              name={name}
              value={key}
              checked={key === chosen}
              onChange={() => onChoose(key)}
            />
            <b className="oc-choice">{label}</b>
          </label>
        ))}
      </div>
    </fieldset>
  );
}
