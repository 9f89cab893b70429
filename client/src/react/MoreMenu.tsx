import type { Meeting } from '../sdk/index';
import { CaptionsIcon, FloatIcon, GridIcon, KeyboardIcon, MoreIcon, SettingsIcon } from './icons';
import { Popover } from './Popover';
import { ReactionRow } from './Reactions';
import { KEYS } from './shortcuts';
import type { ViewActions } from './view';
import { useWords } from './words/index';

/** What is wanted less often. */
export function MoreMenu({
  meeting,
  actions,
  layoutLabel,
  onLayout,
  captionsLabel,
  onFloat,
}: {
  meeting: Meeting;
  actions: ViewActions;
  layoutLabel: string;
  onLayout: () => void;
  /** Where there are captions. */
  captionsLabel: string | undefined;
  onFloat: (() => void) | undefined;
}) {
  const words = useWords().controls;
  return (
    <Popover
      label={words.more}
      className="oc-control"
      place="above"
      icon={<MoreIcon />}
      data-control="more"
    >
      {(close) => {
        const doing = (action: () => void) => () => {
          close();
          action();
        };
        return (
          <>
            <div className="oc-narrow">
              <ReactionRow meeting={meeting} onDone={close} />
            </div>
            <button
              type="button"
              className="oc-item"
              onClick={doing(() => actions.setDialog('devices'))}
            >
              <SettingsIcon />
              {words.devices}
            </button>
            <button type="button" className="oc-item" onClick={doing(onLayout)}>
              <GridIcon />
              {layoutLabel}
              <kbd>{KEYS.layout}</kbd>
            </button>
            {captionsLabel && (
              <button type="button" className="oc-item" onClick={doing(actions.toggleCaptions)}>
                <CaptionsIcon />
                {captionsLabel}
                <kbd>{KEYS.captions}</kbd>
              </button>
            )}
            {onFloat && (
              <button type="button" className="oc-item" onClick={doing(onFloat)}>
                <FloatIcon />
                {words.pip}
              </button>
            )}
            <button
              type="button"
              className="oc-item"
              onClick={doing(() => actions.setDialog('shortcuts'))}
            >
              <KeyboardIcon />
              {words.shortcuts}
              <kbd>{KEYS.help}</kbd>
            </button>
          </>
        );
      }}
    </Popover>
  );
}
