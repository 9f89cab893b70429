/** A piece of a message: text, or a link. */
export interface TextPart {
  text: string;
  href?: string;
}

const LINK = /https?:\/\/[^\s<>"']+/gi;

/** What ends a sentence is no part of the address before it. */
const TRAILING = /[.,;:!?)\]}…]+$/;

/** Finds the web addresses in what people write; nothing but http and https becomes a link. */
export function linkify(text: string): TextPart[] {
  const parts: TextPart[] = [];
  let end = 0;
  for (const found of text.matchAll(LINK)) {
    const address = found[0].replace(TRAILING, '');
    if (!URL.canParse(address)) continue;
    if (found.index > end) parts.push({ text: text.slice(end, found.index) });
    parts.push({ text: address, href: address });
    end = found.index + address.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

const UNITS = ['kilobyte', 'megabyte', 'gigabyte'] as const;

/** How large a file is, as people say it. */
export function sizeText(bytes: number, language: string): string {
  let unit = 0;
  let value = bytes / 1000;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return new Intl.NumberFormat(language, {
    style: 'unit',
    unit: UNITS[unit] as string,
    maximumFractionDigits: value < 10 ? 1 : 0,
  }).format(value);
}
