import { useEffect, useState } from 'react';

/** What can be chosen. */
export type DeviceKind = 'videoinput' | 'audioinput' | 'audiooutput';

/** The devices that are plugged in; without labels until one of them was allowed. `changes` asks again. */
export function useDeviceList(changes: unknown): readonly MediaDeviceInfo[] {
  const [list, setList] = useState<readonly MediaDeviceInfo[]>([]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: labels come when a device was opened
  useEffect(() => {
    const devices = globalThis.navigator?.mediaDevices as MediaDevices | undefined;
    if (!devices?.enumerateDevices) return;
    let isGone = false;
    const ask = () => {
      devices.enumerateDevices().then(
        (found) => {
          if (!isGone) setList(found);
        },
        () => undefined,
      );
    };
    ask();
    devices.addEventListener?.('devicechange', ask);
    return () => {
      isGone = true;
      devices.removeEventListener?.('devicechange', ask);
    };
  }, [changes]);
  return list;
}

/** Of one kind, named ones only: the others cannot be told apart. */
export function devicesOf(list: readonly MediaDeviceInfo[], kind: DeviceKind): MediaDeviceInfo[] {
  return list.filter((device) => device.kind === kind && device.deviceId !== '');
}
