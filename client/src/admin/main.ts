import './admin.css';
import { ask, Refused, type Workers } from './api';
import { el } from './dom';
import { Overview, ParticipantView, RoomView, type View } from './views';

/** How often the server is asked; its own numbers are a second old at most. */
const INTERVAL_MS = 2_000;

/** The key lives in this tab, until it is closed or the person signs out. */
const STORED = 'opencall-admin-key';

const root = document.getElementById('root');
if (!root) throw new Error('admin.html has no #root');
const page = root;

let timer: ReturnType<typeof setTimeout> | undefined;
/** Counts views, so that what was asked for one does not show in another. */
let life = 0;

function signIn(words = ''): void {
  stop();
  const key = el('input', {
    type: 'password',
    autocomplete: 'off',
    required: true,
    autofocus: true,
  });
  const said = el('p', { className: 'trouble', role: 'alert' }, words);
  const form = el(
    'form',
    { className: 'door' },
    el('h1', {}, 'opencall-sfu'),
    el('label', {}, 'Admin key', key),
    el('button', { type: 'submit' }, 'Look'),
    said,
    el(
      'p',
      { className: 'quiet' },
      'The secret of a key given with --admin-key. It stays in this tab.',
    ),
  );
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const secret = key.value.trim();
    ask<Workers>(secret, '/v1/workers').then(
      () => {
        sessionStorage.setItem(STORED, secret);
        show(secret);
      },
      (error: unknown) => {
        said.textContent = wordsOf(error);
      },
    );
  });
  page.replaceChildren(form);
}

function show(key: string): void {
  stop();
  const own = life;
  const view = viewOf(location.hash);
  const said = el('p', { className: 'trouble', role: 'alert' });
  const out = el('button', { type: 'button', className: 'out' }, 'Sign out');
  out.addEventListener('click', () => {
    sessionStorage.removeItem(STORED);
    signIn();
  });
  page.replaceChildren(el('header', {}, el('h1', {}, 'opencall-sfu'), out), said, view.element);
  const look = async (): Promise<void> => {
    try {
      await view.refresh(key);
      said.textContent = '';
    } catch (error) {
      if (own !== life) return;
      if (error instanceof Refused && error.status === 401) {
        sessionStorage.removeItem(STORED);
        return signIn(wordsOf(error));
      }
      said.textContent = wordsOf(error);
    }
    if (own === life) timer = setTimeout(() => void look(), INTERVAL_MS);
  };
  void look();
}

function stop(): void {
  life += 1;
  clearTimeout(timer);
}

function viewOf(hash: string): View {
  const [room, participant] = hash.replace(/^#\/?/, '').split('/').map(decode);
  if (!room) return new Overview();
  return participant ? new ParticipantView(room, participant) : new RoomView(room);
}

/** A part of an address that a person may have typed. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof Refused) return error.message;
  return 'The server does not answer.';
}

function begin(): void {
  const key = sessionStorage.getItem(STORED);
  if (key) show(key);
  else signIn();
}

window.addEventListener('hashchange', begin);
begin();
