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

export function CloseIcon() {
  return (
    <Icon>
      <path d="M6 6l12 12M18 6L6 18" />
    </Icon>
  );
}
