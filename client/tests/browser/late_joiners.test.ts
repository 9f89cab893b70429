import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DialectName } from './harness/dialects';
import type { HookState } from './harness/hook';
import { openHarness, openHook } from './support/chromium';
import { TestServer } from './support/server';
import { newRoom } from './support/talk';
import { until } from './support/wait';

let server: TestServer;

beforeAll(async () => {
  server = await TestServer.start({ name: 'late-joiners' });
});

afterAll(() => server?.stop());

/** They come in this order, each after the one before has begun to send. */
const PEOPLE = ['ann', 'ben', 'cleo'];

/** Enough to know that a picture moves. */
const FRAMES = 10;

const othersOf = (person: string) => PEOPLE.filter((other) => other !== person);

/** Whether these are the tracks of everyone else, each once, all of them alive. */
function areAllOthers(
  person: string,
  tracks: { from: string; kind: string; isAlive: boolean }[],
): boolean {
  const expected = othersOf(person).flatMap((other) => [`${other} audio`, `${other} video`]);
  const found = tracks.map(({ from, kind }) => `${from} ${kind}`).sort();
  return found.join() === expected.sort().join() && tracks.every(({ isAlive }) => isAlive);
}

test('OpenCall’s own client finds the server well before it connects', async () => {
  const answer = await fetch(`${server.httpUrl}/health`);
  expect(answer.status).toBe(200);
  expect(await answer.json()).toMatchObject({ status: 'ok' });
});

describe.each(['3.7', '3.24'])('OpenCall’s own client with mediasoup-client %s', (version) => {
  test('asks in its own order, and whoever comes late sees and hears those before', async () => {
    const call = await openHook(version);
    const room = newRoom();
    for (const person of PEOPLE) await call('join', person, `${server.wsUrl}/ws`, room);
    const states: HookState[] = [];
    for (const person of PEOPLE) {
      const state = await until(
        `${person} sees and hears the two others`,
        () => call('state', person),
        ({ received }) =>
          areAllOthers(
            person,
            received.map((track) => ({
              from: track.participantId,
              kind: track.kind,
              isAlive:
                track.kind === 'video'
                  ? track.framesDecoded >= FRAMES
                  : track.totalAudioEnergy > 0 && track.packetsReceived > FRAMES,
            })),
          ),
      );
      states.push(state);
    }
    for (const { mediasoupVersion, errors, asked, received } of states) {
      expect(mediasoupVersion.startsWith(`${version}.`), mediasoupVersion).toBe(true);
      expect(errors).toEqual([]);
      expect(asked.slice(0, 4)).toEqual([
        'getRouterCapabilities',
        'setRtpCapabilities',
        'createTransport',
        'createTransport',
      ]);
      // Once for each track of the others: it never asks again.
      expect(asked.filter((name) => name === 'consume')).toHaveLength(4);
      expect(received.map(({ source }) => source).sort()).toEqual([
        'microphone',
        'microphone',
        'webcam',
        'webcam',
      ]);
    }
    for (const person of PEOPLE) await call('leave', person);
  });
});

describe.each<DialectName>(['old protoo', 'new protoo', 'opencall'])(
  'in a room that speaks %s',
  (dialect) => {
    test('whoever comes late sees and hears those before', async () => {
      const call = await openHarness();
      const room = newRoom();
      for (const person of PEOPLE) {
        await call('open', person, dialect, server.wsUrl, room);
        await call('sendVideo', person, { width: 320, height: 180 });
        await call('sendAudio', person);
      }
      for (const person of PEOPLE) {
        await until(
          `${person} sees and hears the two others`,
          () => call('received', person),
          (received) =>
            areAllOthers(
              person,
              received.map(({ peerId, kind, framesDecoded, totalAudioEnergy }) => ({
                from: peerId,
                kind,
                isAlive: kind === 'video' ? framesDecoded >= FRAMES : totalAudioEnergy > 0,
              })),
            ),
        );
      }
      await call('closeAll');
    });
  },
);
