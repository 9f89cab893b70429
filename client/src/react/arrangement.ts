import type { MeetingSnapshot, Participant } from '../sdk/index';

/** What can be on the stage: someone's face, or their screen. */
export interface Spot {
  readonly participantId: string;
  readonly source: 'camera' | 'screen';
}

/** The same for the same spot; names its tile. */
export function keyOf({ participantId, source }: Spot): string {
  return source === 'screen' ? `screen:${participantId}` : participantId;
}

type Person = Pick<Participant, 'id' | 'isLocal'>;

/**
 * Everyone, over all pages. People stay where they are: who comes is last, and who speaks from behind the first page
 * takes the place there of whoever has been silent longest, who goes to theirs. So one tile changes.
 */
export function arrange(
  before: readonly string[],
  people: readonly Person[],
  recentSpeakers: readonly string[],
  places: number,
): readonly string[] {
  const present = new Map(people.map((person) => [person.id, person]));
  const order = before.filter((id) => present.has(id));
  const known = new Set(order);
  for (const { id } of people) if (!known.has(id)) order.push(id);
  // Whoever is shown for having spoken does not make room for who spoke before.
  const keep = recentSpeakers.filter((id) => present.has(id)).slice(0, Math.max(0, places - 1));
  for (const speaker of keep) {
    const at = order.indexOf(speaker);
    if (at < places) continue;
    const victim = silentLongest(order.slice(0, places), present, recentSpeakers, keep);
    if (victim === undefined) break;
    const place = order.indexOf(victim);
    order[place] = speaker;
    order[at] = victim;
  }
  const isSame = order.length === before.length && order.every((id, index) => id === before[index]);
  return isSame ? before : order;
}

/**
 * Everyone in a room with a stage: oneself, who is on it, then the others. Places on stage are those of its slots, so that
 * who comes on it is seen where the one before was; the first page is theirs alone. Who speaks and has a camera has a slot
 * for it in a moment, and is not asked for by everyone meanwhile.
 */
export function arrangeStage(
  people: readonly (Person & Pick<Participant, 'media'>)[],
  stage: MeetingSnapshot['stage'],
): { first: readonly string[]; others: readonly string[] } {
  const present = new Map(people.map((person) => [person.id, person]));
  const own = people.filter(({ isLocal }) => isLocal).map(({ id }) => id);
  const onStage = stage
    .filter(({ source, participantId }) => {
      const person = present.get(participantId);
      return person && (source === 'camera' || (source === 'microphone' && !person.media.camera));
    })
    .map(({ participantId }) => participantId);
  const first = [...new Set([...own, ...onStage])];
  const known = new Set(first);
  return { first, others: people.map(({ id }) => id).filter((id) => !known.has(id)) };
}

/** Lists on pages of so many places, each beginning one of its own. */
export function paged<T>(lists: readonly (readonly T[])[], places: number): T[][] {
  const pages: T[][] = [];
  for (const list of lists) {
    for (let at = 0; at < list.length; at += places) pages.push(list.slice(at, at + places));
  }
  return pages;
}

function silentLongest(
  shown: readonly string[],
  present: ReadonlyMap<string, Person>,
  recentSpeakers: readonly string[],
  keep: readonly string[],
): string | undefined {
  let victim: string | undefined;
  let longest = -1;
  shown.forEach((id, index) => {
    if (present.get(id)?.isLocal || keep.includes(id)) return;
    const spoke = recentSpeakers.indexOf(id);
    const silence = spoke === -1 ? recentSpeakers.length + index : spoke;
    if (silence > longest) [victim, longest] = [id, silence];
  });
  return victim;
}

/** Moves those who speak now to the front. */
export function rememberSpeakers(
  recent: readonly string[],
  speakers: readonly string[],
  places: number,
): readonly string[] {
  if (speakers.every((id) => recent.includes(id))) return recent;
  return [...new Set([...speakers, ...recent])].slice(0, places);
}

/** Who speaks: whoever did stays while they still do, so that two who talk at once do not take turns. */
export function mainSpeaker(
  before: string | undefined,
  { speakers, participants }: Pick<MeetingSnapshot, 'speakers' | 'participants'>,
): string | undefined {
  const others = participants.filter(({ isLocal }) => !isLocal);
  const isThere = (id: string | undefined) => others.some((other) => other.id === id);
  const speaking = speakers.filter(isThere);
  if (before !== undefined && speaking.includes(before)) return before;
  return speaking[0] ?? (isThere(before) ? before : others[0]?.id);
}

/** Screens of others, the latest last. One's own would be a picture of itself. */
export function screensOf(participants: readonly Participant[]): Spot[] {
  return participants
    .filter(({ isLocal, media }) => !isLocal && media.screen)
    .map(({ id }) => ({ participantId: id, source: 'screen' as const }));
}

/** What is shown large: what is pinned, else a screen, else who speaks, else oneself. */
export function chooseMain(
  participants: readonly Participant[],
  pinned: Spot | undefined,
  speaker: string | undefined,
): Spot | undefined {
  const isThere = ({ participantId, source }: Spot) =>
    participants.some(
      ({ id, isLocal, media }) =>
        id === participantId && (source === 'camera' || (!isLocal && media.screen)),
    );
  if (pinned && isThere(pinned)) return pinned;
  const screen = screensOf(participants).at(-1);
  if (screen) return screen;
  const id = speaker ?? participants[0]?.id;
  return id === undefined ? undefined : { participantId: id, source: 'camera' };
}
