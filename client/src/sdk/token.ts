/** What a join token says of its holder. Read for display only: the server is who verifies it. */
export interface TokenClaims {
  /** Whom it is for: the participant's id. */
  identity?: string;
  /** The room it lets in to. */
  room?: string;
  /** The name that the others see. */
  name?: string;
}

/** Reads the claims of a JWT; nothing from what is not one. */
export function readToken(token: string): TokenClaims {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const { sub, name, video } = JSON.parse(new TextDecoder().decode(bytes));
    return { ...text('identity', sub), ...text('name', name), ...text('room', video?.room) };
  } catch {
    return {};
  }
}

function text(key: keyof TokenClaims, value: unknown): TokenClaims {
  return typeof value === 'string' && value ? { [key]: value } : {};
}

/** The address with the token in it: browsers cannot send headers with a WebSocket. */
export function withToken(url: string, token: string | undefined): string {
  if (!token) return url;
  const parameter = `access_token=${encodeURIComponent(token)}`;
  return url + (url.includes('?') ? '&' : '?') + parameter;
}
