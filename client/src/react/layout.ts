/** How tiles fill a rectangle. */
export interface Grid {
  columns: number;
  rows: number;
  tileWidth: number;
  tileHeight: number;
}

/** Where a tile stands, in CSS pixels from the corner of the stage. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Size {
  width: number;
  height: number;
}

/** Between two tiles. */
export const GAP_PX = 8;

/** Oneself and twenty others, of whom all can be received: a page without grey tiles. */
export const MAX_TILES = 21;

/** Narrower ones show nobody, but on the smallest stages two still stand beside each other. */
const MIN_TILE_WIDTH = 156;
const MIN_TILE_SHARE = 0.4;

/** Pictures of cameras are wide, and may be cropped; on tall screens faces are shown upright. */
const WIDEST = 16 / 9;
const NARROWEST = { wide: 4 / 3, tall: 4 / 5 };

/** What a strip of small tiles takes of a stage, and its bounds. */
const STRIP_SHARE = 0.2;
const STRIP_PX = { least: 132, most: 232 };

/** The arrangement of `count` tiles that makes them largest. All lengths in CSS pixels. */
export function layoutTiles(count: number, width: number, height: number, gap: number): Grid {
  const narrowest = width < height ? NARROWEST.tall : NARROWEST.wide;
  let best: Grid = { columns: 1, rows: Math.max(count, 1), tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    if (cellWidth <= 0 || cellHeight <= 0) continue;
    const tileWidth = Math.min(cellWidth, cellHeight * WIDEST);
    const tileHeight = Math.min(cellHeight, tileWidth / narrowest);
    if (tileWidth * tileHeight <= best.tileWidth * best.tileHeight) continue;
    best = { columns, rows, tileWidth, tileHeight };
  }
  return best;
}

/** So many tiles fit without becoming too small. Where nothing is measured yet, all that may be shown. */
export function gridPlaces({ width, height }: Size): number {
  if (width === 0 || height === 0) return MAX_TILES;
  const least = Math.min(MIN_TILE_WIDTH, width * MIN_TILE_SHARE);
  let places = 1;
  for (let count = 2; count <= MAX_TILES; count += 1) {
    if (layoutTiles(count, width, height, GAP_PX).tileWidth >= least) places = count;
  }
  return places;
}

/** Tiles as a grid in the middle of the stage, the last row centred. */
export function placeGrid(count: number, { width, height }: Size): Rect[] {
  const { columns, rows, tileWidth, tileHeight } = layoutTiles(count, width, height, GAP_PX);
  const top = (height - rows * tileHeight - (rows - 1) * GAP_PX) / 2;
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = (width - inRow * tileWidth - (inRow - 1) * GAP_PX) / 2;
    return rounded({
      x: left + (index - row * columns) * (tileWidth + GAP_PX),
      y: top + row * (tileHeight + GAP_PX),
      width: tileWidth,
      height: tileHeight,
    });
  });
}

/** One large picture, and the others small: beside it on wide stages, below it on tall ones. */
export interface SpeakerLayout {
  main: Rect;
  strip: Rect[];
}

/** The thickness of the strip and its small tiles. */
function stripOf({ width, height }: Size): { isBeside: boolean; tile: Size } {
  const isBeside = width > height * 1.1;
  const side = isBeside ? width : height;
  // On stages that have no room for it, it is still smaller than the large picture.
  const least = Math.min(STRIP_PX.least, side / 3, (isBeside ? height : width) * 0.7);
  const across = clamp(side * STRIP_SHARE, least, STRIP_PX.most);
  const tile = isBeside
    ? { width: across, height: across / WIDEST }
    : { width: across, height: across * 0.75 };
  return { isBeside, tile };
}

/** So many small tiles stand beside a large one; `below` is kept free under them where they stand beside it. */
export function stripPlaces(size: Size, below = 0): number {
  if (size.width === 0 || size.height === 0) return MAX_TILES - 1;
  const { isBeside, tile } = stripOf(size);
  const [length, each] = isBeside ? [size.height - below, tile.height] : [size.width, tile.width];
  return Math.max(1, Math.floor((length + GAP_PX) / (each + GAP_PX)));
}

export function placeSpeaker(others: number, size: Size, below = 0): SpeakerLayout {
  const { width, height } = size;
  if (others === 0) return { main: { x: 0, y: 0, width, height }, strip: [] };
  const { isBeside, tile } = stripOf(size);
  const along = isBeside ? tile.height : tile.width;
  const used = others * along + (others - 1) * GAP_PX;
  const start = ((isBeside ? height - below : width) - used) / 2;
  const strip = Array.from({ length: others }, (_, index) => {
    const at = start + index * (along + GAP_PX);
    return rounded(
      isBeside
        ? { x: width - tile.width, y: at, ...tile }
        : { x: at, y: height - tile.height, ...tile },
    );
  });
  const main = isBeside
    ? { x: 0, y: 0, width: width - tile.width - GAP_PX, height }
    : { x: 0, y: 0, width, height: height - tile.height - GAP_PX };
  return { main: rounded(main), strip };
}

/** Half pixels make edges blurred. */
function rounded({ x, y, width, height }: Rect): Rect {
  const [left, top] = [Math.round(x), Math.round(y)];
  return {
    x: left,
    y: top,
    width: Math.max(0, Math.round(x + width) - left),
    height: Math.max(0, Math.round(y + height) - top),
  };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
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
