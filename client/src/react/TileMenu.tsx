import type { Participant } from '../sdk/index';
import { HostItems } from './HostItems';
import { useHostedMeeting } from './hosted';
import { MoreIcon, PinIcon } from './icons';
import { Popover } from './Popover';
import { QUALITIES, type Quality, type ViewActions } from './view';
import { useWords } from './words/index';

/** What can be done with one tile: pin it, choose how good and how loud it is. */
export function TileMenu({
  name,
  participant,
  source,
  isPinned,
  volume,
  quality,
  actions,
}: {
  name: string;
  participant: Participant;
  source: 'camera' | 'screen';
  isPinned: boolean;
  volume: number;
  quality: Quality;
  actions: ViewActions;
}) {
  const words = useWords().tile;
  const hosted = useHostedMeeting();
  const { id, isLocal, media } = participant;
  const hasSound = source === 'camera' ? media.microphone : media.screenAudio;
  return (
    <Popover label={words.options(name)} className="oc-tile-menu" icon={<MoreIcon />}>
      {(close) => (
        <>
          <button
            type="button"
            className="oc-item"
            aria-pressed={isPinned}
            onClick={() => {
              close();
              actions.togglePin({ participantId: id, source });
            }}
          >
            <PinIcon off={isPinned} />
            {isPinned ? words.unpin : words.pin}
          </button>
          {hosted && !isLocal && source === 'camera' && (
            <HostItems meeting={hosted} participant={participant} close={close} />
          )}
          {!isLocal && source === 'camera' && media.camera && (
            <label className="oc-group">
              <span>{words.quality}</span>
              <select
                className="oc-input"
                value={quality}
                onChange={(event) => actions.setQuality(id, event.target.value as Quality)}
              >
                {QUALITIES.map((key) => (
                  <option key={key} value={key}>
                    {words.qualities[key]}
                  </option>
                ))}
              </select>
            </label>
          )}
          {!isLocal && hasSound && (
            <label className="oc-group">
              <span>{words.volume}</span>
              <input
                type="range"
                min="0"
                max="1"
                step="0.05"
                value={volume}
                onChange={(event) => actions.setVolume(id, Number(event.target.value))}
              />
            </label>
          )}
        </>
      )}
    </Popover>
  );
}
