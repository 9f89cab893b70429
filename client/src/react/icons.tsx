import type { ReactNode } from 'react';

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg className="oc-icon" viewBox="0 0 24 24" aria-hidden="true">
      {children}
    </svg>
  );
}

const SLASH = <path d="M4 4l16 16" />;

export function MicrophoneIcon({ off = false }: { off?: boolean }) {
  return (
    <Icon>
      <rect x="9" y="3" width="6" height="11" rx="3" />
      <path d="M5.5 11.5a6.5 6.5 0 0 0 13 0M12 18v3" />
      {off && SLASH}
    </Icon>
  );
}

export function CameraIcon({ off = false }: { off?: boolean }) {
  return (
    <Icon>
      <rect x="3" y="6.5" width="12.5" height="11" rx="2.5" />
      <path d="M15.5 10.8l5-2.8v8l-5-2.8" />
      {off && SLASH}
    </Icon>
  );
}

export function ScreenIcon() {
  return (
    <Icon>
      <rect x="3" y="4.5" width="18" height="12" rx="2.5" />
      <path d="M8.5 20h7M12 13.5v-6M9.5 9.8L12 7.3l2.5 2.5" />
    </Icon>
  );
}

export function LeaveIcon() {
  return (
    <Icon>
      <path
        transform="translate(-3 -2.7) scale(1.25)"
        d="M3.6 14.6c-.5-.7-.6-2 .1-2.8C5.7 9.5 8.7 8.3 12 8.3s6.3 1.2 8.3 3.5c.7.8.6 2.1.1 2.8-.5.6-1.3.8-2 .5l-2.3-1c-.6-.3-1-.8-1-1.5v-1.1a9.8 9.8 0 0 0-6.2 0v1.1c0 .7-.4 1.2-1 1.5l-2.3 1c-.7.3-1.5.1-2-.5z"
      />
    </Icon>
  );
}

export function PeopleIcon() {
  return (
    <Icon>
      <circle cx="9" cy="8.5" r="3.3" />
      <path d="M3 19.5c.3-3.3 2.8-5.3 6-5.3s5.7 2 6 5.3M15.8 5.6a3 3 0 0 1 0 5.8M17.5 14.5c2 .6 3.3 2.3 3.5 4.6" />
    </Icon>
  );
}

export function LinkIcon() {
  return (
    <Icon>
      <path d="M10 14a4 4 0 0 0 5.7 0l3.1-3.1a4 4 0 0 0-5.7-5.7l-1 1M14 10a4 4 0 0 0-5.7 0l-3.1 3.1a4 4 0 0 0 5.7 5.7l1-1" />
    </Icon>
  );
}

export function LockIcon({ open = false }: { open?: boolean }) {
  return (
    <Icon>
      <rect x="5" y="10.5" width="14" height="10" rx="2.5" />
      <path d={open ? 'M8 10.5V7.5a4 4 0 0 1 7.6-1.7' : 'M8 10.5V7.5a4 4 0 0 1 8 0v3'} />
    </Icon>
  );
}

export function CaptionsIcon({ off = false }: { off?: boolean }) {
  return (
    <Icon>
      <rect x="3" y="5" width="18" height="14" rx="3" />
      <path d="M10.5 10.2a2.3 2.3 0 1 0 0 3.6M17.2 10.2a2.3 2.3 0 1 0 0 3.6" />
      {off && SLASH}
    </Icon>
  );
}

export function RecordIcon() {
  return (
    <Icon>
      <circle cx="12" cy="12" r="8" />
      <circle cx="12" cy="12" r="3.5" fill="currentColor" />
    </Icon>
  );
}

export function CloseIcon() {
  return (
    <Icon>
      <path d="M6 6l12 12M18 6L6 18" />
    </Icon>
  );
}

export function ChatIcon() {
  return (
    <Icon>
      <path d="M4 6.5A2.5 2.5 0 0 1 6.5 4h11A2.5 2.5 0 0 1 20 6.5v7a2.5 2.5 0 0 1-2.5 2.5H11l-4.5 4v-4A2.5 2.5 0 0 1 4 13.5z" />
    </Icon>
  );
}

export function HandIcon() {
  return (
    <Icon>
      <path d="M7.5 12.5V6.3a1.4 1.4 0 0 1 2.8 0V11M10.3 10.5V4.6a1.4 1.4 0 0 1 2.8 0v5.9M13.1 11V5.8a1.4 1.4 0 0 1 2.8 0v6.4M15.9 11.7V8.4a1.4 1.4 0 0 1 2.8 0v6.1c0 3.9-2.4 6.5-6.2 6.5-3.1 0-4.6-1.4-6-4.1l-2.2-4.3c-.8-1.6 1-2.6 2-1.4l1.2 1.6" />
    </Icon>
  );
}

export function SmileIcon() {
  return (
    <Icon>
      <circle cx="12" cy="12" r="8.5" />
      <path d="M8.5 14.2c.8 1.2 2 1.9 3.5 1.9s2.7-.7 3.5-1.9M9 9.6v.1M15 9.6v.1" />
    </Icon>
  );
}

export function GridIcon() {
  return (
    <Icon>
      <rect x="3.5" y="4.5" width="7.5" height="6.5" rx="1.6" />
      <rect x="13" y="4.5" width="7.5" height="6.5" rx="1.6" />
      <rect x="3.5" y="13" width="7.5" height="6.5" rx="1.6" />
      <rect x="13" y="13" width="7.5" height="6.5" rx="1.6" />
    </Icon>
  );
}

export function SpeakerViewIcon() {
  return (
    <Icon>
      <rect x="3.5" y="4.5" width="11.5" height="15" rx="2" />
      <path d="M18 5.5h2.5M18 12h2.5M18 18.5h2.5" />
    </Icon>
  );
}

export function MoreIcon() {
  return (
    <Icon>
      <path d="M5.5 12h.1M12 12h.1M18.5 12h.1" strokeWidth="3" />
    </Icon>
  );
}

export function PinIcon({ off = false }: { off?: boolean }) {
  return (
    <Icon>
      <path d="M9 4h6l-.7 5.6 2.7 3v1.9H7v-1.9l2.7-3zM12 14.5V20" />
      {off && SLASH}
    </Icon>
  );
}

export function SettingsIcon() {
  return (
    <Icon>
      <path d="M4 7.5h9M17.5 7.5H20M4 16.5h3M11.5 16.5H20" />
      <circle cx="15.2" cy="7.5" r="2.2" />
      <circle cx="9.2" cy="16.5" r="2.2" />
    </Icon>
  );
}

export function KeyboardIcon() {
  return (
    <Icon>
      <rect x="2.5" y="6" width="19" height="12" rx="2.5" />
      <path d="M6.5 10h.1M10.2 10h.1M13.9 10h.1M17.5 10h.1M8 14h8" />
    </Icon>
  );
}

export function FloatIcon() {
  return (
    <Icon>
      <path d="M20.5 11V6.5a2 2 0 0 0-2-2h-13a2 2 0 0 0-2 2v9a2 2 0 0 0 2 2H10" />
      <rect x="12.5" y="13.5" width="8" height="6" rx="1.5" />
    </Icon>
  );
}

export function ChevronIcon({ to }: { to: 'left' | 'right' }) {
  return (
    <Icon>
      <path d={to === 'left' ? 'M14.5 5.5L8 12l6.5 6.5' : 'M9.5 5.5L16 12l-6.5 6.5'} />
    </Icon>
  );
}

export function ZoomIcon({ to }: { to: 'in' | 'out' | 'whole' }) {
  if (to === 'whole') {
    return (
      <Icon>
        <path d="M4 9V5.5A1.5 1.5 0 0 1 5.5 4H9M15 4h3.5A1.5 1.5 0 0 1 20 5.5V9M20 15v3.5a1.5 1.5 0 0 1-1.5 1.5H15M9 20H5.5A1.5 1.5 0 0 1 4 18.5V15" />
      </Icon>
    );
  }
  return (
    <Icon>
      <circle cx="10.5" cy="10.5" r="6.5" />
      <path
        d={
          to === 'in'
            ? 'M15.3 15.3L20 20M10.5 7.8v5.4M7.8 10.5h5.4'
            : 'M15.3 15.3L20 20M7.8 10.5h5.4'
        }
      />
    </Icon>
  );
}

export function FileIcon() {
  return (
    <Icon>
      <path d="M13.5 3.5h-6A1.5 1.5 0 0 0 6 5v14a1.5 1.5 0 0 0 1.5 1.5h9A1.5 1.5 0 0 0 18 19V8zM13.5 3.5V8H18" />
    </Icon>
  );
}

export function DownloadIcon() {
  return (
    <Icon>
      <path d="M12 4v10.5M7.5 10.3L12 14.8l4.5-4.5M5 19.5h14" />
    </Icon>
  );
}

export function AttachIcon() {
  return (
    <Icon>
      <path d="M19 11.5l-7 7a4.5 4.5 0 0 1-6.4-6.4l7.4-7.4a3 3 0 0 1 4.3 4.3l-7.3 7.2a1.5 1.5 0 0 1-2.1-2.1l6.6-6.5" />
    </Icon>
  );
}

export function SendIcon() {
  return (
    <Icon>
      <path d="M4.5 12L20 4.5 15.5 20l-3.8-6.3zM11.7 13.7L20 4.5" />
    </Icon>
  );
}

export function WarningIcon() {
  return (
    <Icon>
      <path d="M12 4.5l8.5 15h-17zM12 10.5v4M12 17v.1" />
    </Icon>
  );
}

/** Three bars, of which as many are full as the number says. */
export function NetworkIcon({ bars }: { bars: number }) {
  return (
    <svg className="oc-bars" viewBox="0 0 16 14" aria-hidden="true">
      {[0, 1, 2].map((bar) => (
        <rect
          key={bar}
          x={bar * 5.5 + 0.5}
          y={9 - bar * 4}
          width="4"
          height={5 + bar * 4}
          rx="1.2"
          opacity={bar < bars ? 1 : 0.35}
        />
      ))}
    </svg>
  );
}
