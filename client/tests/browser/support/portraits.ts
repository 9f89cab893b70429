/**
 * Runs in the page: its camera shows a drawn person, another for each name, and its microphone is silent until
 * `window.speak(true)`.
 */
export function drawnCamera(options: { name: string }): void {
  interface Look {
    skin: string;
    shade: string;
    hair: string;
    shirt: string;
    wall: [string, string];
    style: 'short' | 'long' | 'bun' | 'curly' | 'bald' | 'bob';
    glasses?: boolean;
    beard?: boolean;
  }
  const LOOKS: Look[] = [
    {
      skin: '#e8b796',
      shade: '#d29a78',
      hair: '#4a2c1d',
      shirt: '#39608f',
      wall: ['#cfd8dc', '#8fa3ad'],
      style: 'long',
    },
    {
      skin: '#8d5a3c',
      shade: '#74472d',
      hair: '#1d1512',
      shirt: '#d9a441',
      wall: ['#5d6f64', '#39463f'],
      style: 'short',
      beard: true,
    },
    {
      skin: '#f1cdb0',
      shade: '#ddb08f',
      hair: '#c98d3f',
      shirt: '#7a3b4e',
      wall: ['#e3d7c8', '#b59f86'],
      style: 'bun',
      glasses: true,
    },
    {
      skin: '#c98f63',
      shade: '#b0774e',
      hair: '#20201f',
      shirt: '#2f7d6b',
      wall: ['#46506a', '#2b3247'],
      style: 'short',
      glasses: true,
    },
    {
      skin: '#5e3a28',
      shade: '#4a2c1d',
      hair: '#120d0b',
      shirt: '#e6e1d8',
      wall: ['#a9744f', '#6b452d'],
      style: 'curly',
    },
    {
      skin: '#f0c9ad',
      shade: '#dcae8e',
      hair: '#9a9a9a',
      shirt: '#3d4450',
      wall: ['#bfc8b5', '#838f76'],
      style: 'bald',
      beard: true,
    },
    {
      skin: '#e2ad84',
      shade: '#cb9168',
      hair: '#2b1a14',
      shirt: '#b5563f',
      wall: ['#d6dde8', '#9eabc0'],
      style: 'bob',
    },
    {
      skin: '#f3d2b8',
      shade: '#e0b595',
      hair: '#a3452a',
      shirt: '#4d6b3c',
      wall: ['#6a5a72', '#43374b'],
      style: 'curly',
      glasses: true,
    },
    {
      skin: '#a56b45',
      shade: '#8c5735',
      hair: '#251712',
      shirt: '#6c5bb0',
      wall: ['#e8e2da', '#b9ada0'],
      style: 'bun',
    },
  ];
  let seed = 7;
  for (const character of options.name) seed = (seed * 31 + (character.codePointAt(0) ?? 0)) % 9973;
  const known = ['Ann', 'Ben', 'Cleo', 'Dan', 'Eve', 'Finn', 'Gwen', 'Hugo', 'Ida'].indexOf(
    options.name.split(' ')[0] ?? '',
  );
  const look = LOOKS[(known === -1 ? seed : known) % LOOKS.length] as Look;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [640, 360];
  const pen = canvas.getContext('2d') as CanvasRenderingContext2D;
  const ellipse = (x: number, y: number, rx: number, ry: number, color: string, turn = 0) => {
    pen.fillStyle = color;
    pen.beginPath();
    pen.ellipse(x, y, rx, ry, turn, 0, Math.PI * 2);
    pen.fill();
  };

  function room() {
    const wall = pen.createLinearGradient(0, 0, 640, 360);
    wall.addColorStop(0, look.wall[0]);
    wall.addColorStop(1, look.wall[1]);
    pen.fillStyle = wall;
    pen.fillRect(0, 0, 640, 360);
    pen.filter = 'blur(7px)';
    // A window's light, and what stands behind people.
    pen.fillStyle = '#ffffff55';
    pen.fillRect(seed % 2 ? 30 : 470, 20, 130, 190);
    pen.fillStyle = '#00000026';
    pen.fillRect(seed % 2 ? 430 : 20, 150, 190, 12);
    for (let book = 0; book < 6; book += 1) {
      pen.fillStyle = ['#a4583f', '#46617a', '#c8a45a', '#5f7355', '#7b5a78', '#ddd2c0'][
        book
      ] as string;
      pen.fillRect((seed % 2 ? 440 : 30) + book * 24, 104 + ((book * 13 + seed) % 17), 18, 46);
    }
    ellipse(seed % 2 ? 590 : 60, 250, 44, 70, '#3f5a3d');
    pen.filter = 'none';
  }

  function hairBehind(x: number, y: number) {
    if (look.style === 'long') {
      ellipse(x, y + 42, 84, 118, look.hair);
    } else if (look.style === 'bob') {
      ellipse(x, y + 16, 82, 88, look.hair);
    } else if (look.style === 'bun') {
      ellipse(x, y - 92, 30, 27, look.hair);
      ellipse(x, y - 12, 72, 80, look.hair);
    } else if (look.style === 'curly') {
      for (let curl = 0; curl < 13; curl += 1) {
        const angle = Math.PI * (0.92 + (curl / 12) * 1.16);
        ellipse(x + Math.cos(angle) * 68, y - 12 + Math.sin(angle) * 74, 27, 27, look.hair);
      }
    }
  }

  function hairBefore(x: number, y: number) {
    if (look.style === 'bald') return;
    pen.fillStyle = look.hair;
    pen.beginPath();
    pen.moveTo(x - 66, y + 4);
    pen.bezierCurveTo(x - 88, y - 134, x + 88, y - 134, x + 66, y + 4);
    pen.bezierCurveTo(x + 58, y - 34, x + 36, y - 48, x + 6, y - 46);
    pen.bezierCurveTo(x - 30, y - 44, x - 56, y - 30, x - 66, y + 4);
    pen.fill();
    if (look.style === 'long' || look.style === 'bob') {
      ellipse(x - 64, y + 34, 15, 54, look.hair, 0.1);
      ellipse(x + 64, y + 34, 15, 54, look.hair, -0.1);
    }
  }

  function body(x: number, y: number) {
    pen.fillStyle = look.shirt;
    pen.beginPath();
    pen.moveTo(x - 190, 380);
    pen.bezierCurveTo(x - 180, y + 138, x - 100, y + 118, x - 44, y + 100);
    pen.lineTo(x + 44, y + 100);
    pen.bezierCurveTo(x + 100, y + 118, x + 180, y + 138, x + 190, 380);
    pen.fill();
    ellipse(x, y + 102, 44, 24, look.shade);
    pen.fillStyle = look.shade;
    pen.fillRect(x - 30, y + 40, 60, 62);
  }

  function face(x: number, y: number, at: number, isTalking: boolean) {
    ellipse(x - 66, y + 8, 10, 16, look.shade);
    ellipse(x + 66, y + 8, 10, 16, look.shade);
    ellipse(x, y, 66, 82, look.skin);
    if (look.beard) {
      pen.fillStyle = look.hair;
      pen.beginPath();
      pen.moveTo(x - 64, y + 16);
      pen.bezierCurveTo(x - 62, y + 104, x + 62, y + 104, x + 64, y + 16);
      pen.bezierCurveTo(x + 44, y + 40, x + 24, y + 26, x, y + 27);
      pen.bezierCurveTo(x - 24, y + 26, x - 44, y + 40, x - 64, y + 16);
      pen.fill();
    }
    const isBlinking = (at + seed * 97) % 3900 < 140;
    for (const side of [-1, 1]) {
      ellipse(x + side * 27, y - 2, 9, isBlinking ? 1.5 : 8, '#fbf7f2');
      if (!isBlinking) ellipse(x + side * 27, y - 1, 5, 5.5, '#2d211b');
      pen.strokeStyle = look.style === 'bald' ? '#8b8b8b' : look.hair;
      pen.lineWidth = 4.5;
      pen.lineCap = 'round';
      pen.beginPath();
      pen.moveTo(x + side * 15, y - 18);
      pen.quadraticCurveTo(x + side * 28, y - 26, x + side * 41, y - 17);
      pen.stroke();
      if (!look.glasses) continue;
      pen.strokeStyle = '#2a2a2e';
      pen.lineWidth = 3.5;
      pen.beginPath();
      pen.ellipse(x + side * 27, y - 1, 20, 17, 0, 0, Math.PI * 2);
      pen.moveTo(x + side * 7, y - 3);
      pen.lineTo(x, y - 5);
      pen.stroke();
    }
    pen.strokeStyle = look.shade;
    pen.lineWidth = 4;
    pen.beginPath();
    pen.moveTo(x + 1, y + 4);
    pen.quadraticCurveTo(x + 9, y + 22, x - 3, y + 24);
    pen.stroke();
    const open = isTalking ? 4 + Math.abs(Math.sin(at / 110)) * 9 : 0;
    if (open > 0) ellipse(x, y + 45, 17, open, '#7d2f2c');
    else {
      pen.strokeStyle = '#9c4a42';
      pen.lineWidth = 4;
      pen.beginPath();
      pen.moveTo(x - 19, y + 41);
      pen.quadraticCurveTo(x, y + 54, x + 19, y + 41);
      pen.stroke();
    }
  }

  /** A canvas is only captured while its page is in front; frames that are made by hand are taken anywhere. */
  function filmed(source: HTMLCanvasElement): MediaStreamTrack {
    const Generator = (
      window as unknown as {
        MediaStreamTrackGenerator: new (
          options: object,
        ) => MediaStreamTrack & {
          writable: WritableStream<VideoFrame>;
        };
      }
    ).MediaStreamTrackGenerator;
    const track = new Generator({ kind: 'video' });
    const writer = track.writable.getWriter();
    const film = async () => {
      while (track.readyState === 'live') {
        await writer.write(new VideoFrame(source, { timestamp: performance.now() * 1000 }));
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    film().catch(() => undefined);
    return track;
  }
  (window as unknown as { filmed: typeof filmed }).filmed = filmed;

  const audio = new AudioContext();
  const gain = audio.createGain();
  gain.gain.value = 0;
  let isTalking = false;
  (window as unknown as { speak: (isOn: boolean) => void }).speak = (isOn) => {
    isTalking = isOn;
    gain.gain.value = isOn ? 0.25 : 0;
    void audio.resume();
  };
  function draw() {
    const at = performance.now();
    const x = 320 + Math.sin(at / 1700 + seed) * 5;
    const y = 168 + Math.sin(at / 1300 + seed * 2) * 3;
    room();
    hairBehind(x, y);
    body(x, y);
    face(x, y, at, isTalking);
    hairBefore(x, y);
    const light = pen.createRadialGradient(250, 90, 40, 320, 200, 420);
    light.addColorStop(0, '#ffffff22');
    light.addColorStop(1, '#00000038');
    pen.fillStyle = light;
    pen.fillRect(0, 0, 640, 360);
  }
  const timer = () => {
    draw();
    setTimeout(timer, 100);
  };
  timer();
  const destination = audio.createMediaStreamDestination();
  const tone = audio.createOscillator();
  tone.frequency.value = 180;
  tone.connect(gain).connect(destination);
  tone.start();
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const tracks: MediaStreamTrack[] = [];
    if (wanted?.video) tracks.push(filmed(canvas));
    if (wanted?.audio) tracks.push(...destination.stream.clone().getAudioTracks());
    return new MediaStream(tracks);
  };
}

/** Runs in the page, after `drawnCamera`: what it shares is a drawn slide. */
export function drawnScreen(): void {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [1280, 720];
  const pen = canvas.getContext('2d') as CanvasRenderingContext2D;
  function draw() {
    pen.fillStyle = '#fbfaf7';
    pen.fillRect(0, 0, 1280, 720);
    pen.fillStyle = '#20242c';
    pen.font = '600 54px system-ui, sans-serif';
    pen.fillText('One packet, one core', 96, 132);
    pen.font = '28px system-ui, sans-serif';
    pen.fillStyle = '#5b616d';
    pen.fillText('CPU per forwarded packet, by size of the room', 96, 182);
    const bars = [92, 148, 205, 262, 338, 402];
    bars.forEach((height, index) => {
      pen.fillStyle = index === bars.length - 1 ? '#3b57d6' : '#b9c2dd';
      pen.beginPath();
      pen.roundRect(96 + index * 184, 640 - height, 132, height, 12);
      pen.fill();
    });
    pen.fillStyle = '#d9d6cf';
    pen.fillRect(96, 642, 1088, 3);
    setTimeout(draw, 250);
  }
  draw();
  const { filmed } = window as unknown as { filmed: (of: HTMLCanvasElement) => MediaStreamTrack };
  navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([filmed(canvas)]);
}
