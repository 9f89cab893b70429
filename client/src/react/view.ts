import { useMemo, useState } from 'react';
import { keyOf, type Spot } from './arrangement';

/** What is wanted of someone's picture. */
export type Quality = 'auto' | 'high' | 'medium' | 'low' | 'off';

export const QUALITIES: readonly Quality[] = ['auto', 'high', 'medium', 'low', 'off'];

/** How the stage is filled; `auto` shows everyone until there is a screen or a pin. */
export type Mode = 'auto' | 'grid' | 'speaker';

/** What stands beside the stage. */
export type SheetName = 'people' | 'chat';

/** What is on top of everything. */
export type DialogName = 'shortcuts' | 'devices';

/** How one looks at a meeting; of no concern to the others. */
export interface View {
  readonly mode: Mode;
  readonly pinned: Spot | undefined;
  readonly page: number;
  readonly sheet: SheetName | undefined;
  /** Whether captions are shown, where there are any. */
  readonly hasCaptions: boolean;
  readonly dialog: DialogName | undefined;
  /** From 0 to 1, by participant; 1 where nothing was chosen. */
  readonly volumes: Readonly<Record<string, number>>;
  readonly qualities: Readonly<Record<string, Quality>>;
  /** Where sound comes out; the system's choice if left out. */
  readonly speakerId: string | undefined;
}

export interface ViewActions {
  setMode(mode: Mode): void;
  /** Pins it, or lets it go where it is pinned already. */
  togglePin(spot: Spot): void;
  setPage(page: number): void;
  toggleSheet(sheet: SheetName): void;
  closeSheet(): void;
  toggleCaptions(): void;
  setDialog(dialog: DialogName | undefined): void;
  setVolume(participantId: string, volume: number): void;
  setQuality(participantId: string, quality: Quality): void;
  setSpeaker(deviceId: string | undefined): void;
}

const START: View = {
  mode: 'auto',
  pinned: undefined,
  page: 0,
  sheet: undefined,
  hasCaptions: true,
  dialog: undefined,
  volumes: {},
  qualities: {},
  speakerId: undefined,
};

/** The view, and what changes it; the actions are the same objects for good. */
export function useView(): [View, ViewActions] {
  const [view, setView] = useState(START);
  const actions = useMemo((): ViewActions => {
    const change = (next: (before: View) => Partial<View>) =>
      setView((before) => ({ ...before, ...next(before) }));
    return {
      setMode: (mode) => change(() => ({ mode, page: 0, pinned: undefined })),
      togglePin: (spot) =>
        change(({ pinned }) =>
          pinned && keyOf(pinned) === keyOf(spot)
            ? { pinned: undefined, mode: 'auto' }
            : { pinned: spot, mode: 'auto', page: 0 },
        ),
      setPage: (page) => change(() => ({ page })),
      toggleSheet: (wanted) =>
        change(({ sheet }) => ({ sheet: sheet === wanted ? undefined : wanted })),
      closeSheet: () => change(() => ({ sheet: undefined })),
      toggleCaptions: () => change(({ hasCaptions }) => ({ hasCaptions: !hasCaptions })),
      setDialog: (dialog) => change(() => ({ dialog })),
      setVolume: (id, volume) =>
        change(({ volumes }) => ({ volumes: { ...volumes, [id]: volume } })),
      setQuality: (id, quality) =>
        change(({ qualities }) => ({ qualities: { ...qualities, [id]: quality } })),
      setSpeaker: (speakerId) => change(() => ({ speakerId })),
    };
  }, []);
  return [view, actions];
}
