import type { Meeting, SharedFile } from '../sdk/index';
import { sizeText } from './chatText';
import { CloseIcon, DownloadIcon, FileIcon } from './icons';
import { usePreferences, useWords } from './words/index';

/** Files that were offered, with how far each has come. */
export function FileCards({
  meeting,
  files,
  nameOf,
}: {
  meeting: Meeting;
  files: readonly SharedFile[];
  nameOf: (participantId: string) => string | undefined;
}) {
  const words = useWords().files;
  if (files.length === 0) return null;
  return (
    <ul className="oc-files" aria-label={words.title}>
      {files.map((file) => (
        <FileCard key={file.id} meeting={meeting} file={file} owner={nameOf(file.from)} />
      ))}
    </ul>
  );
}

function FileCard({
  meeting,
  file,
  owner,
}: {
  meeting: Meeting;
  file: SharedFile;
  owner: string | undefined;
}) {
  const words = useWords().files;
  const { language } = usePreferences();
  const { id, name, size, transferred, state, url, mine } = file;
  const failed = (error: unknown) => console.info('opencall: a file stays as it is', error);
  const isMoving = state === 'running' || state === 'paused';
  const isOver = state === 'failed' || state === 'cancelled';
  const about = [sizeText(size, language), mine ? words.yours : owner, words.states[state]];
  return (
    <li className="oc-file" data-state={state}>
      <FileIcon />
      <div>
        <b title={name}>{name}</b>
        <small>{about.filter(Boolean).join(' · ')}</small>
        {isMoving && <progress max={size} value={transferred} aria-label={name} />}
      </div>
      {url && !mine ? (
        <a
          className="oc-button oc-button--bare"
          href={url}
          download={name}
          aria-label={words.save(name)}
        >
          <DownloadIcon />
        </a>
      ) : (
        !mine &&
        !isMoving &&
        state !== 'done' && (
          <button
            type="button"
            className="oc-button oc-button--bare"
            aria-label={words.accept(name)}
            onClick={() => void meeting.acceptFile(id).catch(failed)}
          >
            <DownloadIcon />
          </button>
        )
      )}
      {!isOver && (
        <button
          type="button"
          className="oc-button oc-button--bare"
          aria-label={words.cancel(name)}
          onClick={() => void meeting.cancelFile(id).catch(failed)}
        >
          <CloseIcon />
        </button>
      )}
    </li>
  );
}
