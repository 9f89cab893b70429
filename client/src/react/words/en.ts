import type { ErrorFacts, MeetingErrorCode, Source } from '../../sdk/index';

const DEVICES: Record<Source, string> = {
  camera: 'camera',
  microphone: 'microphone',
  screen: 'screen',
  screenAudio: 'screen’s sound',
};

const device = ({ source }: ErrorFacts) => (source ? DEVICES[source] : 'device');

/** Two names and a number. */
const list = (names: readonly string[]) =>
  names.length > 2
    ? `${names.slice(0, 2).join(', ')} and ${names.length - 2} more`
    : names.join(' and ');

const are = (names: readonly string[]) => `${list(names)} ${names.length > 1 ? 'are' : 'is'}`;

const errors: Record<MeetingErrorCode, (facts: ErrorFacts) => string> = {
  'device-denied': (facts) =>
    facts.source === 'screen'
      ? 'The screen was not shared: permission was not given.'
      : `Your browser does not let this page use your ${device(facts)}. Allow it in the address bar, then try again.`,
  'device-missing': (facts) => `No ${device(facts)} was found. Plug one in, or go on without it.`,
  'device-busy': (facts) =>
    `Your ${device(facts)} could not be started. Another program may be using it.`,
  'device-lost': (facts) =>
    facts.reason
      ? `Your ${device(facts)} was unplugged. Another one is used instead.`
      : `Your ${device(facts)} was unplugged. Plug it in again, and it goes on.`,
  'insecure-page': () =>
    'Browsers give camera and microphone to https pages only. Open this page with https.',
  'server-unreachable': () => 'The meeting server cannot be reached.',
  'server-gone': () => 'The meeting server does not come back. Try again later.',
  'request-refused': ({ reason }) =>
    reason
      ? `The server refused: ${reason}`
      : 'That was too much for the server, and was not done.',
  'muted-by-host': (facts) =>
    `A host switched off your ${device(facts)}, and alone can let you switch it on.`,
  'request-timed-out': () => 'The meeting server does not answer.',
  'sent-away': ({ reason }) =>
    reason ? `The server ended this connection: ${reason}.` : 'The server ended this connection.',
  'token-refused': ({ reason }) =>
    reason
      ? `You cannot enter: ${reason}.`
      : 'This meeting wants an invitation of your own. Open the link that you were given.',
  'media-unsupported': () => 'This browser cannot take part in video calls of this server.',
  'encryption-unsupported': () =>
    'This cannot be encrypted end to end in this browser, and nothing was sent.',
  'encryption-failed': ({ reason }) =>
    `Encryption stopped working${reason ? ` (${reason})` : ''}. Nothing is sent any more; join again.`,
  unexpected: ({ reason }) =>
    reason ? `Something went wrong: ${reason}` : 'Something went wrong.',
};

/** Everything the component and the page say, in English. Other languages have the same keys. */
export const en = {
  errors,

  top: {
    recorded: 'Recording',
    broadcast: 'On air',
    broadcastHelp: 'Someone in this meeting is broadcast to people outside it.',
    tapped: 'Transcribed',
    tappedHelp: 'What is said here goes to a program outside, which makes captions of it.',
    status: {
      idle: 'Not joined',
      joining: 'Joining…',
      waiting: 'Waiting to be let in…',
      joined: 'Connected',
      reconnecting: 'Reconnecting…',
      failed: 'Not connected',
      left: 'You left',
    },
    unanswered: 'The server does not answer…',
    weak: 'Weak connection',
    here: (count: number) => `${count} in this meeting`,
    invite: 'Copy invite',
    copied: 'Copied',
  },

  encryption: {
    on: 'Encrypted',
    noKey: 'No key',
    panel: 'Encryption',
    promise:
      'What you send is encrypted on your device. The server passes it on and cannot see or hear it.',
    compare: 'Read this code to each other. If all have the same, all have the same key:',
    members: (names: readonly string[]) => `The keys of this moment have: ${names.join(', ')}.`,
    states: {
      pending: 'Nothing received yet',
      encrypted: 'Encrypted end to end',
      'waiting-for-key': 'Waiting for key',
      'wrong-key': 'Wrong key',
      'not-encrypted': 'Not encrypted',
    },
    waiting: 'Waiting for the key: until it is here you send nothing, and see and hear nobody.',
    keyMissing: (names: readonly string[]) =>
      `${are(names)} encrypted end to end, and you have no key. Leave, and join again by the invitation with the key, or with the passphrase.`,
    wrongKey: (names: readonly string[]) =>
      `${are(names)} encrypted with another key than yours. Whoever has the wrong one has to leave and join again, by the invitation of the others or with their passphrase.`,
    inTheClear: (names: readonly string[]) =>
      `${are(names)} not encrypted, and therefore not played. They have to join by the invitation with the key, or with the passphrase.`,
  },

  states: {
    joining: 'Joining the meeting…',
    waiting: 'A host will let you in',
    waitingHelp: 'The meeting is locked. Whoever hosts it sees that you wait.',
    failed: 'You are not in the meeting',
    replaced: 'You are in this meeting elsewhere',
    replacedHelp: 'You joined again in another tab or on another device. This one was let go.',
    removed: 'You were removed from the meeting',
    removedHelp: 'A host ended your part in it.',
    taken: 'Someone is here under your name',
    takenHelp: 'Whoever joined before you has this identity still. Wait a moment, then try again.',
    locked: 'This meeting is locked',
    lockedHelp: 'Nobody else is let in. Ask someone inside to unlock it.',
    denied: 'You were not let in',
    deniedHelp: 'A host decided so.',
    noEntry: 'You cannot enter',
    lost: 'The connection was lost. Reconnecting…',
    alone: 'You are the first one here. Others appear as they join.',
    aloneInvite: 'Send the invite to those whom you expect.',
    again: 'Try again',
    dismiss: 'Dismiss',
    unblock: 'Click to hear the others',
    sharing: 'You are sharing your screen',
    stopSharing: 'Stop sharing',
  },

  controls: {
    bar: 'Meeting controls',
    mute: 'Mute',
    unmute: 'Unmute',
    startVideo: 'Start video',
    stopVideo: 'Stop video',
    share: 'Share screen',
    stopSharing: 'Stop sharing',
    people: 'People',
    chat: 'Chat',
    unread: (count: number) => `Chat, ${count} unread`,
    captionsOn: 'Show captions',
    captionsOff: 'Hide captions',
    raiseHand: 'Raise hand',
    lowerHand: 'Lower hand',
    react: 'React',
    emojis: [
      'Thumbs up',
      'Applause',
      'Heart',
      'Laughing',
      'Astonished',
      'Hooray',
    ] as readonly string[],
    more: 'More',
    leave: 'Leave',
    grid: 'Show everyone',
    speaker: 'Show who speaks',
    devices: 'Devices',
    pip: 'Floating window',
    shortcuts: 'Keyboard shortcuts',
    talking: 'You are heard while you hold the key',
  },

  stage: {
    region: 'Participants',
    more: (count: number) => `${count} more, on other pages`,
    previous: 'Previous page',
    next: 'Next page',
    page: (page: number, pages: number) => `Page ${page} of ${pages}`,
  },

  tile: {
    you: (name: string) => `${name} (you)`,
    screenOf: (name: string) => `${name}’s screen`,
    yourScreen: 'Your screen',
    muted: 'Microphone off',
    speaking: 'Speaking',
    cameraOff: 'Camera off',
    notReceived: 'Picture not received',
    network: ['No connection', 'Bad connection', 'Fair connection', 'Good connection'] as readonly [
      string,
      string,
      string,
      string,
    ],
    handRaised: 'Hand raised',
    options: (name: string) => `Options for ${name}`,
    pin: 'Pin',
    unpin: 'Unpin',
    pinned: 'Pinned',
    quality: 'Picture',
    qualities: { auto: 'Automatic', high: 'Best', medium: 'Medium', low: 'Small', off: 'None' },
    volume: 'Volume',
    zoomIn: 'Zoom in',
    zoomOut: 'Zoom out',
    zoomReset: 'Whole picture',
  },

  captions: {
    region: 'Captions',
  },

  people: {
    title: 'People',
    close: 'Close',
    search: 'Find someone',
    none: 'Nobody of that name.',
  },

  chat: {
    title: 'Chat',
    empty: 'Nothing was written yet. Everyone in the meeting sees what you write.',
    write: 'Write to everyone',
    send: 'Send',
    failed: 'That could not be sent.',
    you: 'You',
  },

  files: {
    title: 'Files',
    attach: 'Send a file',
    drop: 'Let go to send to everyone',
    failed: (name: string) => `${name} could not be offered.`,
    yours: 'yours',
    accept: (name: string) => `Get ${name}`,
    save: (name: string) => `Save ${name}`,
    cancel: (name: string) => `Cancel ${name}`,
    states: {
      offered: 'offered',
      running: 'on its way',
      paused: 'waiting for the connection',
      done: 'complete',
      failed: 'failed',
      cancelled: 'cancelled',
    },
  },

  hosts: {
    lock: 'Lock the meeting',
    unlock: 'Unlock the meeting',
    locked: 'Locked',
    waiting: 'Waiting to be let in',
    knock: (names: readonly string[]) => `${list(names)} would like to join`,
    admit: 'Admit',
    deny: 'Refuse',
    admitName: (name: string) => `Admit ${name}`,
    denyName: (name: string) => `Refuse ${name}`,
    mute: 'Mute',
    stopVideo: 'Stop video',
    allowSound: 'Allow to unmute',
    allowVideo: 'Allow to start video',
    remove: 'Remove from the meeting',
    removeSure: (name: string) => `Really remove ${name}?`,
    youMuted: 'A host switched off your microphone',
    youStopped: 'A host switched off your camera',
    youMayUnmute: 'A host lets you switch your microphone on again',
    youMayStart: 'A host lets you switch your camera on again',
  },

  announce: {
    hand: (name: string) => `${name} raised a hand`,
    said: (name: string, text: string) => `${name}: ${text}`,
    joined: (names: readonly string[]) => `${list(names)} joined`,
    left: (names: readonly string[]) => `${list(names)} left`,
    screen: (name: string) => `${name} shares a screen`,
    muted: 'Microphone off',
    unmuted: 'Microphone on',
    cameraOn: 'Camera on',
    cameraOff: 'Camera off',
  },

  shortcuts: {
    title: 'Keyboard shortcuts',
    microphone: 'Microphone on or off',
    talk: 'Hold to talk while muted',
    space: 'Space',
    camera: 'Camera on or off',
    screen: 'Share the screen, or stop',
    people: 'People',
    layout: 'Everyone, or who speaks',
    pages: 'Page through everyone',
    hand: 'Raise or lower your hand',
    chat: 'Chat',
    captions: 'Captions on or off',
    help: 'This list',
    escape: 'Close what is open',
    close: 'Close',
  },

  devices: {
    title: 'Devices',
    camera: 'Camera',
    microphone: 'Microphone',
    speaker: 'Speaker',
    standard: 'Standard',
    unnamed: (kind: string, number: number) => `${kind} ${number}`,
    level: 'Level of your microphone',
    done: 'Done',
    settings: 'Settings',
    language: 'Language',
    theme: 'Colours',
    themes: { auto: 'As the system', light: 'Light', dark: 'Dark' },
  },

  pip: {
    title: 'Meeting',
    nobody: 'Nobody else is here',
  },

  lobby: {
    title: 'Ready to join?',
    brand: 'OpenCall',
    slogan: 'Video meetings, served by your own machine.',
    name: 'Your name',
    room: 'Room',
    join: 'Join meeting',
    camera: 'Camera',
    microphone: 'Microphone',
    cameraIsOff: 'Your camera is off',
    asking: 'Your browser asks whether this page may use your camera and microphone.',
    starting: 'Starting…',
    noCamera: 'No camera was found. You can join without one.',
    problems: {
      denied: 'Camera and microphone are blocked. Allow them in the address bar, or join without.',
      missing: 'No camera was found. You can join without one.',
      busy: 'The camera could not be started. Another program may be using it.',
      insecure: 'Browsers give camera and microphone to https pages only.',
    },
    noMicrophone: 'No microphone was found, or it is blocked. The others will not hear you.',
    encrypt: 'Encrypt end to end',
    cannotEncrypt:
      'This browser cannot, or the page was opened without https. Others may not be seen.',
    keysOfGroup:
      'The devices of all who are in the meeting agree on keys, anew when someone comes or goes. The server never gets them.',
    keyInLink: 'The key is in the link that you opened. The server never gets it.',
    passphraseAgreed: 'Passphrase of this meeting',
    passphrase: 'Passphrase (optional)',
    passphraseSame: 'All who meet type the same. The server does not know it.',
    passphraseNew:
      'Left empty, a new key goes into the link that you share. The server gets neither.',
    open: 'This server is open: anyone who reaches it can join any meeting under any name. Whoever runs it can require invitations:',
    invited: 'This server lets in who has an invitation. Open the link that you were given.',
    farewell: 'You left the meeting',
    farewellDevices: 'Your camera and microphone are off.',
    rejoin: 'Join again',
    back: 'Back to the lobby',
  },
};
