import { expect, test, vi } from 'vitest';
import { SharedFiles } from '../../../src/data/sharedFiles';

/** Whether what handles files can be fetched. */
const network = vi.hoisted(() => ({ isAway: true }));

vi.mock('../../../src/data/files/desk', async (load) => {
  const { FileDesk } = await load<typeof import('../../../src/data/files/desk')>();
  return {
    get FileDesk() {
      if (network.isAway) throw new TypeError('Failed to fetch dynamically imported module');
      return FileDesk;
    },
  };
});

test('what handles files is fetched again where the network was away', async () => {
  const files = new SharedFiles({
    participantId: 'ann',
    isConnected: () => false,
    changed: () => undefined,
  } as never);
  await expect(files.send(new Blob(['a']), 'a.txt')).rejects.toThrow('Failed to fetch');
  await expect(files.accept('ben/1')).rejects.toThrow('Failed to fetch');
  network.isAway = false;
  await files.send(new Blob(['a']), 'a.txt');
  expect(files.list).toMatchObject([{ name: 'a.txt', state: 'offered', mine: true }]);
});
