import { type DeviceKind, devicesOf } from './deviceList';
import { useWords } from './words/index';

/** One of the devices of a kind; nothing to choose where there is one, or none has a name yet. */
export function DeviceSelect({
  kind,
  label,
  devices,
  chosen,
  onChoose,
}: {
  kind: DeviceKind;
  label: string;
  devices: readonly MediaDeviceInfo[];
  chosen: string | undefined;
  onChoose: (deviceId: string) => void;
}) {
  const words = useWords();
  const own = devicesOf(devices, kind);
  const isKnown = own.some(({ deviceId }) => deviceId === chosen);
  return (
    <label className="oc-field">
      <span>{label}</span>
      <select
        className="oc-input"
        name={kind}
        value={isKnown ? chosen : ''}
        disabled={own.length === 0}
        onChange={(event) => onChoose(event.target.value)}
      >
        {!isKnown && <option value="">{words.devices.standard}</option>}
        {own.map((device, index) => (
          <option key={device.deviceId} value={device.deviceId}>
            {device.label || words.devices.unnamed(label, index + 1)}
          </option>
        ))}
      </select>
    </label>
  );
}
