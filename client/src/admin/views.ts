import {
  ask,
  type Participant,
  type ParticipantReport,
  participantPath,
  type Room,
  type RoomReport,
  roomPath,
  type Worker,
  type Workers,
} from './api';
import { bits, count, el, span, table } from './dom';
import { growth, History } from './history';
import { Plot } from './plot';
import { momentOf } from './story';

/** Moments that a plot shows: ten minutes of one look in two seconds. */
const MOMENTS = 300;

/** What is on the page; it looks at the server when it is told to. */
export interface View {
  readonly element: HTMLElement;
  refresh(key: string): Promise<void>;
}

const percent = (value: number) => `${Math.round(value * 100)} %`;

/** The cores, and the rooms. */
export class Overview implements View {
  readonly element = el('div');
  readonly #facts = el('div', { className: 'facts' });
  readonly #cores = el('div', { className: 'cores' });
  readonly #drops = el('div');
  readonly #rooms = el('div');
  readonly #busy = new History(MOMENTS);
  readonly #traffic = new History(MOMENTS);
  readonly #plots: Plot[];
  #before: { at: number; drops: Record<string, number> } | undefined;

  constructor() {
    this.#plots = [
      new Plot('Busy share of each core', this.#busy, percent, 1),
      new Plot('Datagrams per second', this.#traffic, count),
    ];
    const plots = el('div', { className: 'plots' }, ...this.#plots.map((plot) => plot.element));
    this.element.append(
      this.#facts,
      heading('Data cores'),
      this.#cores,
      plots,
      heading('Packets dropped, per second'),
      this.#drops,
      heading('Rooms'),
      this.#rooms,
    );
  }

  async refresh(key: string): Promise<void> {
    const [server, { rooms, next }] = await Promise.all([
      ask<Workers>(key, '/v1/workers'),
      ask<{ rooms: Room[]; next: string | null }>(key, '/v1/rooms'),
    ]);
    const at = Date.now() / 1000;
    this.#facts.replaceChildren(...factsOf(server));
    const there = server.workers.filter((worker) => worker.state !== 'removed');
    this.#cores.replaceChildren(...there.map(coreCard));
    this.#busy.add(at, new Map(there.map((w) => [`core ${w.core}`, w.busy])));
    const sum = (of: (worker: Worker) => number) =>
      server.workers.reduce((all, worker) => all + of(worker), 0);
    const traffic = new Map([
      ['received', sum((w) => w.receivedPerSecond)],
      ['sent', sum((w) => w.sentPerSecond)],
    ]);
    this.#traffic.add(at, traffic);
    for (const plot of this.#plots) plot.draw();
    this.#showDrops(at, server.workers);
    this.#rooms.replaceChildren(roomTable(rooms, next !== null));
  }

  #showDrops(at: number, workers: Worker[]): void {
    const drops: Record<string, number> = {};
    for (const worker of workers) {
      for (const [reason, value] of Object.entries(worker.drops)) {
        drops[reason] = (drops[reason] ?? 0) + value;
      }
    }
    const before = this.#before;
    this.#before = { at, drops };
    const rates = before ? growth(before.drops, drops, at - before.at) : new Map<string, number>();
    const rows = Object.entries(drops)
      .sort(([one], [other]) => (rates.get(other) ?? 0) - (rates.get(one) ?? 0))
      .map(([reason, all]) => [reason, count(rates.get(reason) ?? 0), count(all)]);
    this.#drops.replaceChildren(
      rows.length ? table(['reason', 'per second', 'since the start'], rows) : quiet('none yet'),
    );
  }
}

/** Who is in a room. */
export class RoomView implements View {
  readonly element = el('div');
  readonly #room: string;
  readonly #body = el('div');

  constructor(room: string) {
    this.#room = room;
    this.element.append(way(['all rooms', '#/']), heading(`Room ${room}`), this.#body);
  }

  async refresh(key: string): Promise<void> {
    const room = await ask<RoomReport>(key, roomPath(this.#room));
    const facts: [string, string][] = [
      ['participants', count(room.participants)],
      ['producers', count(room.producers)],
      ['consumers', count(room.consumers)],
      ['cores', room.cores.join(', ') || '–'],
      ['door', room.locked ? 'locked' : 'open'],
    ];
    const rows = room.members.map((member) => [
      el('a', { href: here(room.room, member.participant) }, nameOf(member)),
      member.joined ? (member.quality ?? 'not known yet') : 'has not entered',
      member.core === null ? '–' : String(member.core),
      el('span', {}, ...member.producers.map(producerBadge)),
      count(member.consumers),
    ]);
    this.#body.replaceChildren(
      el('div', { className: 'facts' }, ...facts.map(fact)),
      table(['participant', 'connection', 'core', 'sends', 'receives'], rows),
    );
  }
}

/** One participant over time. */
export class ParticipantView implements View {
  readonly element = el('div');
  readonly #room: string;
  readonly #participant: string;
  readonly #facts = el('div', { className: 'facts' });
  readonly #streams = el('div');
  readonly #path = new History(MOMENTS);
  readonly #sent = new History(MOMENTS);
  readonly #loss = new History(MOMENTS);
  readonly #layers = new History(MOMENTS);
  readonly #plots: Plot[];

  constructor(room: string, participant: string) {
    this.#room = room;
    this.#participant = participant;
    this.#plots = [
      new Plot('What its path carries, and what it is sent', this.#path, bits),
      new Plot('What it sends, by layer', this.#sent, bits),
      new Plot('Packets lost', this.#loss, (value) => `${value.toFixed(1)} %`),
      new Plot('Layer that it gets of each picture (0: none)', this.#layers, count),
    ];
    const plots = el('div', { className: 'plots' }, ...this.#plots.map((plot) => plot.element));
    this.element.append(
      way(['all rooms', '#/'], [`room ${room}`, here(room)]),
      heading(participant),
      this.#facts,
      plots,
      heading('Streams'),
      this.#streams,
    );
  }

  async refresh(key: string): Promise<void> {
    const path = participantPath(this.#room, this.#participant);
    const report = await ask<ParticipantReport>(key, path);
    const at = Date.now() / 1000;
    const moment = momentOf(report);
    this.#path.add(at, moment.path);
    this.#sent.add(at, moment.sent);
    this.#loss.add(at, moment.loss);
    this.#layers.add(at, moment.layers);
    for (const plot of this.#plots) plot.draw();
    this.#facts.replaceChildren(...participantFacts(report).map(fact));
    this.#streams.replaceChildren(streamTable(report));
  }
}

function participantFacts(report: ParticipantReport): [string, string][] {
  const estimate = momentOf(report).path.get('estimate');
  const transports = report.stats.filter((stats) => stats.type === 'webrtc-transport');
  return [
    ['name', report.displayName || '–'],
    ['connection', report.quality ?? 'not known yet'],
    ['estimate', estimate === undefined ? 'none' : bits(estimate)],
    ['core', report.core === null ? '–' : String(report.core)],
    ['ICE', transports.map((stats) => stats.iceState).join(', ') || '–'],
    ['muted', report.muted.join(', ') || 'nothing'],
  ];
}

function streamTable(report: ParticipantReport): HTMLElement {
  const producers = new Map(report.producers.map((p) => [p.producer, p.source]));
  const consumers = new Map(report.consumerList.map((c) => [c.consumer, `${c.of}: ${c.source}`]));
  const rows = report.stats
    .filter((stats) => stats.type.endsWith('-rtp'))
    .map((stats) => {
      const incoming = stats.type === 'inbound-rtp';
      const name = incoming
        ? producers.get(stats.producerId ?? '')
        : consumers.get(stats.consumerId ?? '');
      return [
        incoming ? 'sends' : 'receives',
        [name, stats.rid].filter(Boolean).join(' '),
        bits(stats.bitrate ?? 0),
        `${(((stats.fractionLost ?? 0) * 100) / 256).toFixed(1)} %`,
        `${((stats.jitter ?? 0) * 1000).toFixed(1)} ms`,
        stats.roundTripTime === undefined ? '–' : `${Math.round(stats.roundTripTime)} ms`,
        String(stats.score ?? '–'),
      ];
    });
  if (rows.length === 0) return quiet('none');
  return table(['', 'stream', 'rate', 'lost', 'jitter', 'round trip', 'score'], rows);
}

function factsOf(server: Workers): HTMLElement[] {
  const facts: [string, string][] = [
    ['rooms', count(server.rooms)],
    ['participants', count(server.participants)],
    ['connections', count(server.connections)],
    ['up for', span(server.uptimeSeconds)],
    ['version', `${server.version}, ${server.io}`],
  ];
  if (server.draining) {
    const { reason, secondsLeft } = server.draining;
    facts.push([
      'draining',
      secondsLeft === null ? reason : `${reason} (${span(secondsLeft)} left)`,
    ]);
  }
  return facts.map(fact);
}

function coreCard(worker: Worker): HTMLElement {
  const state = worker.alive ? '' : ' core--lost';
  const level = worker.busy > 0.85 ? ' meter--high' : worker.busy > 0.6 ? ' meter--middle' : '';
  const meter = el('div', { className: `meter${level}` }, el('div'));
  const fill = meter.firstElementChild as HTMLElement;
  fill.style.width = `${Math.min(worker.busy, 1) * 100}%`;
  const troubles = [
    worker.state === 'draining' ? 'draining' : '',
    worker.died ? `died ${worker.died}×` : '',
    worker.stalled ? `stalled ${worker.stalled}×` : '',
  ].filter(Boolean);
  return el(
    'section',
    { className: `core${state}` },
    el(
      'h3',
      {},
      `core ${worker.core}`,
      el('span', {}, worker.alive ? percent(worker.busy) : 'dead'),
    ),
    meter,
    el(
      'p',
      {},
      `${count(worker.receivedPerSecond)} in, ${count(worker.sentPerSecond)} out per second`,
    ),
    el('p', {}, `${count(worker.transports)} transports, ${count(worker.consumers)} consumers`),
    ...(troubles.length ? [el('p', { className: 'trouble' }, troubles.join(', '))] : []),
  );
}

function roomTable(rooms: Room[], more: boolean): HTMLElement {
  if (rooms.length === 0) return quiet('nobody is here');
  const rows = [...rooms]
    .sort((one, other) => other.participants - one.participants)
    .map((room) => [
      el('a', { href: here(room.room) }, room.room),
      count(room.participants),
      count(room.producers),
      count(room.consumers),
      room.locked ? 'locked' : '',
    ]);
  const heads = ['room', 'participants', 'producers', 'consumers', ''];
  const note = more ? [quiet(`the oldest ${rooms.length} rooms; the API has the others`)] : [];
  return el('div', {}, table(heads, rows), ...note);
}

function producerBadge({ source, paused, muted }: Participant['producers'][number]): HTMLElement {
  const state = muted ? ' (muted)' : paused ? ' (paused)' : '';
  const className = muted || paused ? 'badge badge--off' : 'badge';
  return el('span', { className }, source.replaceAll('_', ' ') + state);
}

function nameOf({ participant, displayName, hidden }: Participant): string {
  const isOther = displayName !== '' && displayName !== participant;
  const name = isOther ? `${displayName} (${participant})` : participant;
  return hidden ? `${name}, hidden` : name;
}

/** The address of a room or participant on this page. */
function here(room: string, participant?: string): string {
  const parts = participant === undefined ? [room] : [room, participant];
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

function fact([name, value]: [string, string]): HTMLElement {
  return el('div', {}, el('strong', {}, value), el('span', {}, name));
}

function heading(text: string): HTMLElement {
  return el('h2', {}, text);
}

function quiet(text: string): HTMLElement {
  return el('p', { className: 'quiet' }, text);
}

function way(...steps: [string, string][]): HTMLElement {
  return el('nav', {}, ...steps.map(([text, href]) => el('a', { href }, text)));
}
