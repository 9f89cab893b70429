import { expect, test } from 'vitest';
import { asMeetingError, explainDeviceError, MeetingError } from '../../src/sdk/errors';

const named = (name: string) => Object.assign(new Error('technical words'), { name });

test.each([
  ['NotAllowedError', 'device-denied', 'does not let this page use your camera'],
  ['NotFoundError', 'device-missing', 'No camera was found'],
  ['NotReadableError', 'device-busy', 'could not be started'],
])('%s is explained as %s', (name, code, words) => {
  const error = explainDeviceError(named(name), 'camera');
  expect(error.code).toBe(code);
  expect(error.message).toContain(words);
  expect(error.message).not.toContain('technical');
});

test('a screen that was not chosen is no fault of the address bar', () => {
  expect(explainDeviceError(named('NotAllowedError'), 'screen').message).not.toContain('address');
});

test('what is explained already stays as it is', () => {
  const error = new MeetingError('sent-away', 'words');
  expect(asMeetingError(error)).toBe(error);
  expect(explainDeviceError(error, 'camera')).toBe(error);
});

test('anything else keeps its text', () => {
  expect(asMeetingError('boom').message).toContain('boom');
});
