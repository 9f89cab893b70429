import { expect, test } from 'vitest';
import { chosenDevices, rememberDevice } from '../../src/page/chosenDevices';
import { memoryOf } from '../../src/page/memory';

test('what is remembered goes to the browser, and comes from there', () => {
  const values = new Map([['name', 'Ann']]);
  const memory = memoryOf(() => ({
    getItem: (key) => values.get(key) ?? null,
    setItem: (key, value) => void values.set(key, value),
  }));
  expect([memory.getItem('name'), memory.getItem('room')]).toEqual(['Ann', null]);
  rememberDevice('camera', 'cam-1', memory);
  expect([...values.values()]).toEqual(['Ann', 'cam-1']);
  // "Any" is remembered, too.
  rememberDevice('camera', '', memory);
  expect(chosenDevices(memory).camera).toBeUndefined();
});

test.each([
  [
    'blocks cookies',
    () => {
      throw new DOMException('The operation is insecure.', 'SecurityError');
    },
  ],
  [
    'has no room',
    () => ({
      getItem: () => null,
      setItem: () => {
        throw new DOMException('full', 'QuotaExceededError');
      },
    }),
  ],
])('a browser that %s forgets when the page is closed, and not before', (_, open) => {
  const memory = memoryOf(open);
  expect(memory.getItem('name')).toBeNull();
  memory.setItem('name', 'Ann');
  expect(memory.getItem('name')).toBe('Ann');
});
