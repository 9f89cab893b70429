import { AccessToken } from 'livekit-server-sdk';
import { expect, test } from 'vitest';
import { adoptToken, readSettings } from '../../src/page/settings';
import { readToken, withToken } from '../../src/sdk/token';

async function mint(room: string, name?: string): Promise<string> {
  const options = { identity: 'änn', ...(name ? { name } : {}) };
  const token = new AccessToken('key', '0123456789abcdefghijklmnopqrstuv', options);
  token.addGrant({ roomJoin: true, room });
  return token.toJwt();
}

function memory() {
  const values = new Map<string, string>();
  return {
    getItem: (key: string) => values.get(key) ?? null,
    setItem: (key: string, value: string) => void values.set(key, value),
  };
}

/** A tab at this address, and where it goes. */
function tab(address: string, sessionStorage = memory()) {
  const { pathname, search, hash } = new URL(address, 'https://meet.example');
  const went: string[] = [];
  const history = {
    replaceState: (_: unknown, __: string, url?: string | URL | null) =>
      void went.push(String(url)),
  };
  return { tab: { location: { pathname, search, hash }, history, sessionStorage }, went };
}

test('a token says whom it is for', async () => {
  expect(readToken(await mint('stand-up', 'Änn'))).toEqual({
    identity: 'änn',
    room: 'stand-up',
    name: 'Änn',
  });
  for (const nonsense of [
    '',
    'a.b.c',
    'a.e30.c',
    `a.${btoa('[]')}.c`,
    `a.${btoa('null')}.c`,
    `a.${btoa('{"sub":7}')}.c`,
  ]) {
    expect(readToken(nonsense)).toEqual({});
  }
});

test('a token goes into the address of the server', () => {
  expect(withToken('wss://x/ws', undefined)).toBe('wss://x/ws');
  expect(withToken('wss://x/ws', 'a.b')).toBe('wss://x/ws?access_token=a.b');
  expect(withToken('wss://x/ws?y=1', 'a&b')).toBe('wss://x/ws?y=1&access_token=a%26b');
});

test('a token is taken out of the address bar', async () => {
  const token = await mint('stand-up');
  const cases = [
    [`/?token=${token}`, '/'],
    [`/?room=stand-up&token=${token}&camera=0`, '/?room=stand-up&camera=0'],
    [`/?camera=0#token=${token}`, '/?camera=0'],
    [`/m#token=${token}&x=1`, '/m#x=1'],
  ] as const;
  for (const [address, left] of cases) {
    const { tab: visit, went } = tab(address);
    expect(adoptToken(visit)).toBe(token);
    expect(went).toEqual([left]);
  }
});

test('a reloaded tab still has its token, unless it goes to another room', async () => {
  const token = await mint('stand-up');
  const first = tab(`/?token=${token}`);
  adoptToken(first.tab);
  const again = (address: string) => adoptToken(tab(address, first.tab.sessionStorage).tab);
  expect(again('/?room=stand-up')).toBe(token);
  expect(again('/')).toBe(token);
  expect(again('/?room=board')).toBeUndefined();
  expect(adoptToken(tab('/').tab)).toBeUndefined();
});

test('room and name of the token win over address and last visit', async () => {
  const store = memory();
  store.setItem('opencall.name', 'Someone');
  const named = readSettings('?room=board', store, await mint('stand-up', 'Änn'));
  expect(named).toMatchObject({ room: 'stand-up', name: 'Änn' });
  expect(readSettings('', store, await mint('stand-up'))).toMatchObject({ name: 'Someone' });
});
