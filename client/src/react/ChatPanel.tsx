import { type KeyboardEvent, useLayoutEffect, useRef, useState } from 'react';
import { type ChatMessage, MAX_CHAT_LENGTH, type Meeting, type SharedFile } from '../sdk/index';
import { linkify } from './chatText';
import { FileCards } from './FileCards';
import { AttachIcon, SendIcon } from './icons';
import { hueOf, initialsOf } from './layout';
import { usePreferences, useWords } from './words/index';

/** Messages of one person within this long stand together. */
const TOGETHER_MS = 120_000;

/** What was said in writing, and a field to say something. */
export function ChatPanel({
  meeting,
  chat,
  files,
  nameOf,
}: {
  meeting: Meeting;
  chat: readonly ChatMessage[];
  files: readonly SharedFile[];
  nameOf: (participantId: string) => string | undefined;
}) {
  const { chat: words, files: fileWords } = useWords();
  const attached = useRef<HTMLInputElement>(null);
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  const list = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const last = chat.at(-1)?.id;
  // biome-ignore lint/correctness/useExhaustiveDependencies: after each message, if the end was in sight
  useLayoutEffect(() => {
    const element = list.current;
    if (element && isAtEnd.current) element.scrollTop = element.scrollHeight;
  }, [last]);
  const send = () => {
    const said = text.trim();
    if (said === '') return;
    setText('');
    setProblem('');
    isAtEnd.current = true;
    meeting.sendChat(said).catch(() => {
      setText((newer) => newer || said);
      setProblem(words.failed);
    });
  };
  const offer = async (chosen: readonly File[]) => {
    for (const file of chosen) {
      await meeting.sendFile(file).catch(() => setProblem(fileWords.failed(file.name)));
    }
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    send();
  };
  return (
    <>
      <div
        ref={list}
        className="oc-chat"
        role="log"
        aria-label={words.title}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is scrolled by keys, too
        tabIndex={0}
        onScroll={({ currentTarget: { scrollTop, scrollHeight, clientHeight } }) => {
          isAtEnd.current = scrollTop + clientHeight > scrollHeight - 40;
        }}
      >
        {chat.length === 0 && <p className="oc-empty">{words.empty}</p>}
        {chat.map((message, index) => (
          <Message key={message.id} message={message} before={chat[index - 1]} />
        ))}
      </div>
      <FileCards meeting={meeting} files={files} nameOf={nameOf} />
      <form
        className="oc-say"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        {problem && <p role="alert">{problem}</p>}
        <input
          ref={attached}
          type="file"
          name="file"
          multiple
          hidden
          onChange={({ target }) => {
            void offer([...(target.files ?? [])]);
            target.value = '';
          }}
        />
        <button
          type="button"
          className="oc-button oc-button--bare"
          aria-label={fileWords.attach}
          onClick={() => attached.current?.click()}
        >
          <AttachIcon />
        </button>
        <textarea
          className="oc-input"
          name="chat"
          aria-label={words.write}
          placeholder={words.write}
          rows={1}
          maxLength={MAX_CHAT_LENGTH}
          value={text}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={keys}
        />
        <button
          type="submit"
          className="oc-button oc-button--main oc-send"
          aria-label={words.send}
          aria-disabled={text.trim() === ''}
        >
          <SendIcon />
        </button>
      </form>
    </>
  );
}

function Message({ message, before }: { message: ChatMessage; before: ChatMessage | undefined }) {
  const words = useWords();
  const { language } = usePreferences();
  const { from, name, text, sentAt, mine } = message;
  const isFirst = before?.from !== from || sentAt - before.sentAt > TOGETHER_MS;
  return (
    <article className="oc-message" data-mine={mine} data-first={isFirst}>
      {isFirst && (
        <header>
          {!mine && (
            <i
              className="oc-avatar oc-avatar--tiny"
              style={{ '--oc-hue': hueOf(from) } as React.CSSProperties}
              aria-hidden="true"
            >
              {initialsOf(name)}
            </i>
          )}
          <b>{mine ? words.chat.you : name}</b>
          <time dateTime={new Date(sentAt).toISOString()}>
            {new Date(sentAt).toLocaleTimeString(language, { hour: '2-digit', minute: '2-digit' })}
          </time>
        </header>
      )}
      <p>
        {linkify(text).map((part, index) =>
          part.href ? (
            // biome-ignore lint/suspicious/noArrayIndexKey: the parts of a text never change
            <a key={index} href={part.href} target="_blank" rel="noopener noreferrer">
              {part.text}
            </a>
          ) : (
            part.text
          ),
        )}
      </p>
    </article>
  );
}
