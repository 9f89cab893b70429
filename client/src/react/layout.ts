/** How tiles fill a rectangle. */
export interface Grid {
  columns: number;
  rows: number;
  tileWidth: number;
  tileHeight: number;
}

/** Pictures of cameras are wide. */
const TILE_RATIO = 16 / 9;

/** The arrangement of `count` tiles of 16:9 that makes them largest. All lengths in CSS pixels. */
export function layoutTiles(count: number, width: number, height: number, gap: number): Grid {
  let best: Grid = { columns: 1, rows: Math.max(count, 1), tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    const tileWidth = Math.max(0, Math.min(cellWidth, cellHeight * TILE_RATIO));
    if (tileWidth <= best.tileWidth) continue;
    best = { columns, rows, tileWidth, tileHeight: tileWidth / TILE_RATIO };
  }
  return best;
}

/** Who has a place when not everyone has: oneself, then whoever spoke last, then whoever came first. */
export function pickVisible<Person extends { id: string; isLocal: boolean }>(
  people: readonly Person[],
  recentSpeakers: readonly string[],
  places: number,
): Person[] {
  if (people.length <= places) return [...people];
  const rank = (person: Person, index: number) => {
    if (person.isLocal) return -1;
    const spoke = recentSpeakers.indexOf(person.id);
    return spoke === -1 ? recentSpeakers.length + index : spoke;
  };
  const chosen = new Set(
    people
      .map((person, index) => ({ person, rank: rank(person, index) }))
      .sort((a, b) => a.rank - b.rank)
      .slice(0, places)
      .map(({ person }) => person),
  );
  // In the order of arrival, so that faces do not wander.
  return people.filter((person) => chosen.has(person));
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

/** One or two letters to show instead of a picture. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const first = words[0] ?? '?';
  const last = words.length > 1 ? words[words.length - 1] : undefined;
  return [first, last]
    .map((word) => (word ? ([...word][0] ?? '') : ''))
    .join('')
    .toUpperCase();
}

/** A hue that stays with a person. */
export function hueOf(id: string): number {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return hash;
}
