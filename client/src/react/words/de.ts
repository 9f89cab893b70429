import type { ErrorFacts, MeetingErrorCode, Source } from '../../sdk/index';
import type { Words } from './index';

const THE_DEVICE: Record<Source, string> = {
  camera: 'die Kamera',
  microphone: 'das Mikrofon',
  screen: 'den Bildschirm',
  screenAudio: 'den Ton des Bildschirms',
};

const NO_DEVICE: Record<Source, string> = {
  camera: 'Keine Kamera',
  microphone: 'Kein Mikrofon',
  screen: 'Kein Bildschirm',
  screenAudio: 'Kein Ton',
};

const theDevice = ({ source }: ErrorFacts) => (source ? THE_DEVICE[source] : 'das Gerät');
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** Two names and a number. */
const list = (names: readonly string[]) =>
  names.length > 2
    ? `${names.slice(0, 2).join(', ')} und ${names.length - 2} weitere`
    : names.join(' und ');

const are = (names: readonly string[]) => `${list(names)} ${names.length > 1 ? 'sind' : 'ist'}`;

const errors: Record<MeetingErrorCode, (facts: ErrorFacts) => string> = {
  'device-denied': (facts) =>
    facts.source === 'screen'
      ? 'Der Bildschirm wurde nicht geteilt: Die Erlaubnis fehlt.'
      : `Der Browser lässt diese Seite nicht an ${theDevice(facts)}. Erlauben Sie es in der Adresszeile und versuchen Sie es noch einmal.`,
  'device-missing': ({ source }) =>
    `${source ? NO_DEVICE[source] : 'Kein Gerät'} gefunden. Schließen Sie eines an, oder machen Sie ohne weiter.`,
  'device-busy': (facts) =>
    `${capital(theDevice(facts))} konnte der Browser nicht öffnen. Vielleicht benutzt ein anderes Programm das Gerät.`,
  'device-lost': ({ source, reason }) => {
    const what = source === 'camera' ? 'Ihre Kamera' : 'Ihr Mikrofon';
    return reason
      ? `${what} wurde abgezogen. Es geht mit einem anderen Gerät weiter.`
      : `${what} wurde abgezogen. Sobald das Gerät wieder angeschlossen ist, geht es weiter.`;
  },
  'insecure-page': () =>
    'Kamera und Mikrofon geben Browser nur Seiten mit https. Öffnen Sie diese Seite mit https.',
  'server-unreachable': () => 'Der Server ist nicht erreichbar.',
  'server-gone': () => 'Der Server kommt nicht wieder. Versuchen Sie es später noch einmal.',
  'request-refused': ({ reason }) =>
    reason
      ? `Der Server hat abgelehnt: ${reason}`
      : 'Das war dem Server zu viel und wurde nicht ausgeführt.',
  'muted-by-host': ({ source }) =>
    source === 'camera'
      ? 'Die Leitung hat Ihre Kamera ausgeschaltet; nur sie kann sie wieder freigeben.'
      : 'Die Leitung hat Ihr Mikrofon ausgeschaltet; nur sie kann es wieder freigeben.',
  'request-timed-out': () => 'Der Server antwortet nicht.',
  'sent-away': ({ reason }) =>
    reason
      ? `Der Server hat diese Verbindung beendet: ${reason}.`
      : 'Der Server hat diese Verbindung beendet.',
  'token-refused': ({ reason }) =>
    reason
      ? `Sie können nicht eintreten: ${reason}.`
      : 'Diese Besprechung verlangt eine eigene Einladung. Öffnen Sie den Link, den Sie bekommen haben.',
  'media-unsupported': () =>
    'Dieser Browser kann an Videogesprächen dieses Servers nicht teilnehmen.',
  'encryption-unsupported': () =>
    'Das kann dieser Browser nicht durchgehend verschlüsseln; gesendet wurde nichts.',
  'encryption-failed': ({ reason }) =>
    `Die Verschlüsselung ist ausgefallen${reason ? ` (${reason})` : ''}. Gesendet wird nichts mehr; treten Sie noch einmal bei.`,
  unexpected: ({ reason }) =>
    reason ? `Etwas ist schiefgegangen: ${reason}` : 'Etwas ist schiefgegangen.',
};

/** The same in German. */
export const de: Words = {
  errors,

  top: {
    recorded: 'Wird aufgezeichnet',
    broadcast: 'Auf Sendung',
    broadcastHelp: 'Jemand in dieser Besprechung wird nach außen übertragen.',
    tapped: 'Wird mitgeschrieben',
    tappedHelp:
      'Was hier gesagt wird, geht an ein Programm außerhalb, das Untertitel daraus macht.',
    status: {
      idle: 'Nicht beigetreten',
      joining: 'Tritt bei…',
      waiting: 'Wartet auf Einlass…',
      joined: 'Verbunden',
      reconnecting: 'Verbindet neu…',
      failed: 'Nicht verbunden',
      left: 'Verlassen',
    },
    unanswered: 'Der Server antwortet nicht…',
    weak: 'Schwache Verbindung',
    here: (count) => `${count} in dieser Besprechung`,
    invite: 'Einladung kopieren',
    copied: 'Kopiert',
  },

  encryption: {
    on: 'Verschlüsselt',
    noKey: 'Kein Schlüssel',
    panel: 'Verschlüsselung',
    promise:
      'Was Sie senden, wird auf Ihrem Gerät verschlüsselt. Der Server gibt es weiter und kann es weder sehen noch hören.',
    compare:
      'Lesen Sie einander diesen Code vor. Haben alle den gleichen, haben alle den gleichen Schlüssel:',
    members: (names) => `Die jetzigen Schlüssel haben: ${names.join(', ')}.`,
    states: {
      pending: 'Noch nichts empfangen',
      encrypted: 'Durchgehend verschlüsselt',
      'waiting-for-key': 'Wartet auf Schlüssel',
      'wrong-key': 'Falscher Schlüssel',
      'not-encrypted': 'Nicht verschlüsselt',
    },
    waiting:
      'Warten auf den Schlüssel: Bis er da ist, senden Sie nichts und sehen und hören niemanden.',
    keyMissing: (names) =>
      `${are(names)} durchgehend verschlüsselt, und Ihnen fehlt der Schlüssel. Treten Sie noch einmal bei, mit der Einladung, die den Schlüssel enthält, oder mit der Passphrase.`,
    wrongKey: (names) =>
      `${are(names)} mit einem anderen Schlüssel verschlüsselt als Sie. Wer den falschen hat, muss noch einmal beitreten, mit der Einladung oder der Passphrase der anderen.`,
    inTheClear: (names) =>
      `${are(names)} nicht verschlüsselt und daher nicht zu sehen und zu hören. Nötig ist die Einladung mit dem Schlüssel oder die Passphrase.`,
  },

  states: {
    joining: 'Sie treten bei…',
    waiting: 'Die Leitung lässt Sie ein',
    waitingHelp: 'Die Besprechung ist geschlossen. Wer sie leitet, sieht, dass Sie warten.',
    failed: 'Sie sind nicht in der Besprechung',
    replaced: 'Sie sind woanders in dieser Besprechung',
    replacedHelp: 'Sie sind in einem anderen Tab oder auf einem anderen Gerät neu beigetreten.',
    removed: 'Sie wurden aus der Besprechung entfernt',
    removedHelp: 'Die Leitung hat Ihre Teilnahme beendet.',
    taken: 'Jemand ist schon unter Ihrem Namen hier',
    takenHelp:
      'Wer vor Ihnen kam, hat diese Kennung noch. Warten Sie kurz und versuchen Sie es wieder.',
    locked: 'Diese Besprechung ist geschlossen',
    lockedHelp: 'Niemand wird mehr eingelassen. Bitten Sie jemanden darin, sie zu öffnen.',
    denied: 'Sie wurden nicht eingelassen',
    deniedHelp: 'So hat es die Leitung entschieden.',
    noEntry: 'Sie können nicht eintreten',
    lost: 'Die Verbindung ist abgerissen und wird neu aufgebaut…',
    alone: 'Noch ist niemand sonst hier. Wer beitritt, erscheint von selbst.',
    aloneInvite: 'Schicken Sie die Einladung denen, die Sie erwarten.',
    again: 'Noch einmal',
    dismiss: 'Schließen',
    unblock: 'Klicken, um die anderen zu hören',
    sharing: 'Sie teilen Ihren Bildschirm',
    stopSharing: 'Teilen beenden',
  },

  controls: {
    bar: 'Steuerung',
    mute: 'Stummschalten',
    unmute: 'Mikrofon an',
    startVideo: 'Kamera an',
    stopVideo: 'Kamera aus',
    share: 'Bildschirm teilen',
    stopSharing: 'Teilen beenden',
    people: 'Personen',
    chat: 'Chat',
    unread: (count) => `Chat, ${count} ungelesen`,
    captionsOn: 'Untertitel zeigen',
    captionsOff: 'Untertitel ausblenden',
    raiseHand: 'Hand heben',
    lowerHand: 'Hand senken',
    react: 'Reagieren',
    emojis: ['Daumen hoch', 'Beifall', 'Herz', 'Lachen', 'Staunen', 'Hurra'],
    more: 'Mehr',
    leave: 'Verlassen',
    grid: 'Alle zeigen',
    speaker: 'Sprechende zeigen',
    devices: 'Geräte',
    pip: 'Schwebendes Fenster',
    shortcuts: 'Tastenkürzel',
    talking: 'Solange Sie die Taste halten, hört man Sie',
  },

  stage: {
    region: 'Teilnehmende',
    more: (count) => `${count} weitere auf anderen Seiten`,
    previous: 'Vorige Seite',
    next: 'Nächste Seite',
    page: (page, pages) => `Seite ${page} von ${pages}`,
  },

  tile: {
    you: (name) => `${name} (Sie)`,
    screenOf: (name) => `Bildschirm von ${name}`,
    yourScreen: 'Ihr Bildschirm',
    muted: 'Mikrofon aus',
    speaking: 'Spricht',
    cameraOff: 'Kamera aus',
    notReceived: 'Bild nicht empfangen',
    network: ['Keine Verbindung', 'Schlechte Verbindung', 'Mäßige Verbindung', 'Gute Verbindung'],
    handRaised: 'Hand gehoben',
    options: (name) => `Optionen für ${name}`,
    pin: 'Anheften',
    unpin: 'Loslösen',
    pinned: 'Angeheftet',
    quality: 'Bild',
    qualities: {
      auto: 'Automatisch',
      high: 'Bestes',
      medium: 'Mittel',
      low: 'Klein',
      off: 'Keines',
    },
    volume: 'Lautstärke',
    zoomIn: 'Vergrößern',
    zoomOut: 'Verkleinern',
    zoomReset: 'Ganzes Bild',
  },

  captions: {
    region: 'Untertitel',
  },

  people: {
    title: 'Personen',
    close: 'Schließen',
    search: 'Jemanden finden',
    none: 'Niemand mit diesem Namen.',
  },

  chat: {
    title: 'Chat',
    empty: 'Noch wurde nichts geschrieben. Was Sie schreiben, sehen alle hier.',
    write: 'Allen schreiben',
    send: 'Senden',
    failed: 'Das ließ sich nicht senden.',
    you: 'Sie',
  },

  files: {
    title: 'Dateien',
    attach: 'Eine Datei senden',
    drop: 'Loslassen, um allen zu senden',
    failed: (name) => `${name} ließ sich nicht anbieten.`,
    yours: 'von Ihnen',
    accept: (name) => `${name} holen`,
    save: (name) => `${name} sichern`,
    cancel: (name) => `${name} abbrechen`,
    states: {
      offered: 'angeboten',
      running: 'unterwegs',
      paused: 'wartet auf die Verbindung',
      done: 'vollständig',
      failed: 'misslungen',
      cancelled: 'abgebrochen',
    },
  },

  hosts: {
    lock: 'Besprechung schließen',
    unlock: 'Besprechung öffnen',
    locked: 'Geschlossen',
    waiting: 'Warten auf Einlass',
    knock: (names) => `${list(names)} ${names.length > 1 ? 'möchten' : 'möchte'} beitreten`,
    admit: 'Einlassen',
    deny: 'Abweisen',
    admitName: (name) => `${name} einlassen`,
    denyName: (name) => `${name} abweisen`,
    mute: 'Stummschalten',
    stopVideo: 'Kamera ausschalten',
    allowSound: 'Mikrofon freigeben',
    allowVideo: 'Kamera freigeben',
    remove: 'Aus der Besprechung entfernen',
    removeSure: (name) => `${name} wirklich entfernen?`,
    youMuted: 'Die Leitung hat Ihr Mikrofon ausgeschaltet',
    youStopped: 'Die Leitung hat Ihre Kamera ausgeschaltet',
    youMayUnmute: 'Die Leitung hat Ihr Mikrofon wieder freigegeben',
    youMayStart: 'Die Leitung hat Ihre Kamera wieder freigegeben',
  },

  announce: {
    hand: (name) => `${name} hebt die Hand`,
    said: (name, text) => `${name}: ${text}`,
    joined: (names) => `${list(names)} ${names.length > 1 ? 'sind' : 'ist'} beigetreten`,
    left: (names) => `${list(names)} ${names.length > 1 ? 'sind' : 'ist'} gegangen`,
    screen: (name) => `${name} teilt einen Bildschirm`,
    muted: 'Mikrofon aus',
    unmuted: 'Mikrofon an',
    cameraOn: 'Kamera an',
    cameraOff: 'Kamera aus',
  },

  shortcuts: {
    title: 'Tastenkürzel',
    microphone: 'Mikrofon an oder aus',
    talk: 'Halten und sprechen, wenn stumm',
    space: 'Leertaste',
    camera: 'Kamera an oder aus',
    screen: 'Bildschirm teilen oder nicht mehr',
    people: 'Personen',
    layout: 'Alle oder wer spricht',
    pages: 'Durch alle blättern',
    hand: 'Hand heben oder senken',
    chat: 'Chat',
    captions: 'Untertitel an oder aus',
    help: 'Diese Liste',
    escape: 'Schließen, was offen ist',
    close: 'Schließen',
  },

  devices: {
    title: 'Geräte',
    camera: 'Kamera',
    microphone: 'Mikrofon',
    speaker: 'Lautsprecher',
    standard: 'Standard',
    unnamed: (kind, number) => `${kind} ${number}`,
    level: 'Pegel Ihres Mikrofons',
    done: 'Fertig',
    settings: 'Einstellungen',
    language: 'Sprache',
    theme: 'Farben',
    themes: { auto: 'Wie das System', light: 'Hell', dark: 'Dunkel' },
  },

  pip: {
    title: 'Besprechung',
    nobody: 'Niemand sonst ist hier',
  },

  lobby: {
    title: 'Bereit?',
    brand: 'OpenCall',
    slogan: 'Videogespräche, vom eigenen Rechner bedient.',
    name: 'Ihr Name',
    room: 'Raum',
    join: 'Beitreten',
    camera: 'Kamera',
    microphone: 'Mikrofon',
    cameraIsOff: 'Ihre Kamera ist aus',
    asking: 'Ihr Browser fragt, ob diese Seite Kamera und Mikrofon benutzen darf.',
    starting: 'Startet…',
    noCamera: 'Keine Kamera gefunden. Sie können ohne beitreten.',
    problems: {
      denied:
        'Kamera und Mikrofon sind gesperrt. Erlauben Sie sie in der Adresszeile, oder treten Sie ohne bei.',
      missing: 'Keine Kamera gefunden. Sie können ohne beitreten.',
      busy: 'Die Kamera ließ sich nicht starten. Vielleicht benutzt sie ein anderes Programm.',
      insecure: 'Kamera und Mikrofon geben Browser nur Seiten mit https.',
    },
    noMicrophone: 'Kein Mikrofon gefunden, oder es ist gesperrt. Die anderen hören Sie nicht.',
    encrypt: 'Durchgehend verschlüsseln',
    cannotEncrypt:
      'Dieser Browser kann das nicht, oder die Seite wurde ohne https geöffnet. Andere sehen Sie dann womöglich nicht.',
    keysOfGroup:
      'Die Geräte aller in der Besprechung vereinbaren Schlüssel, neue, sobald jemand kommt oder geht. Der Server bekommt sie nie.',
    keyInLink: 'Der Schlüssel steht im Link, den Sie geöffnet haben. Der Server bekommt ihn nie.',
    passphraseAgreed: 'Passphrase dieser Besprechung',
    passphrase: 'Passphrase (freiwillig)',
    passphraseSame: 'Alle tippen die gleiche. Der Server kennt sie nicht.',
    passphraseNew:
      'Bleibt das leer, kommt ein neuer Schlüssel in den Link, den Sie weitergeben. Der Server bekommt beides nicht.',
    open: 'Dieser Server ist offen: Wer ihn erreicht, kann jeder Besprechung unter jedem Namen beitreten. Wer ihn betreibt, kann Einladungen verlangen:',
    invited:
      'Dieser Server lässt nur mit Einladung ein. Öffnen Sie den Link, den Sie bekommen haben.',
    farewell: 'Sie haben die Besprechung verlassen',
    farewellDevices: 'Kamera und Mikrofon sind aus.',
    rejoin: 'Wieder beitreten',
    back: 'Zurück zum Anfang',
  },
};
