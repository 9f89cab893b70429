import type { Memory } from './settings';

/** Ids of devices; the browser draws other ones for other sites. */
export interface ChosenDevices {
  camera: string | undefined;
  microphone: string | undefined;
}

const key = (device: keyof ChosenDevices) => `opencall.${device}`;

/** What was chosen the last time. */
export function chosenDevices(memory: Memory): ChosenDevices {
  return {
    camera: memory.getItem(key('camera')) || undefined,
    microphone: memory.getItem(key('microphone')) || undefined,
  };
}

/** For the next visit; an empty id is none. */
export function rememberDevice(
  device: keyof ChosenDevices,
  deviceId: string,
  memory: Memory,
): void {
  memory.setItem(key(device), deviceId);
}
