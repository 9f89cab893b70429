//! A data core's end of the ring, a sink at the other, and a folder that it records into.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use matroska_demuxer::{Frame, MatroskaFile};
use opencall_dataplane::fanout::links::{Link, Links, PipeMessage};
use opencall_dataplane::ingress::packet::MediaPacket;
use opencall_dataplane::ingress::source::{SenderReport, SourceId, SourceNews};
use opencall_dataplane::message::{Command, CoreId, PayloadTypeMapping, ProducerId};
use opencall_dataplane::sender_clock::SenderClock;
use opencall_recorder::disk::Disk;
use opencall_recorder::message::{
    Ending, RecordCommand, RecordEvent, RecordingConfig, RecordingId, SinkCommand, TrackConfig,
};
use opencall_recorder::sink::{Sink, SinkConfig};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::extension::ExtensionSpans;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::rtp::payload::PayloadInfo;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::{NtpTime, Time};
use smallvec::smallvec;

use crate::films::Film;

/// The recording's zero on the server's clock.
pub const ZERO: Time = Time::from_millis(100_000);
pub const RECORDING: RecordingId = RecordingId(9);

/// The sink is a core after the only one there is.
const CORE: CoreId = CoreId(0);
const SINK: CoreId = CoreId(1);

pub struct Stand {
    pub sink: Sink,
    pub core: Links,
    pub folder: PathBuf,
    pub now: Time,
    pub ended: Option<Ending>,
    /// Requests for key frames, with their time in the recording.
    pub requests: Vec<(u64, ProducerId, u8)>,
}

impl Stand {
    pub fn new(name: &str) -> Self {
        Self::with(name, u64::MAX, 0)
    }

    pub fn with(name: &str, max_bytes: u64, min_free: u64) -> Self {
        let folder = std::env::temp_dir().join(format!("opencall-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let config = SinkConfig { folder: folder.clone(), max_bytes, min_free };
        let mut sink = Sink::new(config, Disk::start(min_free).unwrap());
        let (here, there) = Link::pair();
        let mut core = Links::default();
        core.attach(SINK, here);
        let attach = Command::AttachLink { to: CORE, link: Box::new(there) };
        sink.command(ZERO, SinkCommand::Core(attach));
        let config = RecordingConfig {
            id: RECORDING,
            name: "r9".into(),
            room: "The room/../x".into(),
            started: ZERO,
            started_unix_ms: 1_795_963_914_000,
        };
        sink.command(ZERO, SinkCommand::Record(RecordCommand::Start(Box::new(config))));
        Stand { sink, core, folder, now: ZERO, ended: None, requests: Vec::new() }
    }

    pub fn record(&mut self, command: RecordCommand) {
        self.sink.command(self.now, SinkCommand::Record(command));
    }

    /// Time passes.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now = self.now + Duration::from_millis(10);
            self.sink.turn(self.now);
            self.look();
        }
    }

    fn look(&mut self) {
        while let Some(event) = self.sink.poll_event() {
            if let RecordEvent::Ended { ending, .. } = event {
                self.ended = Some(ending);
            }
        }
        let ms = self.now.since(ZERO).as_millis() as u64;
        for index in 0..self.core.take(usize::from(SINK.0)) {
            let slot = self.core.slot(usize::from(SINK.0), index).unwrap();
            if let PipeMessage::KeyFrameRequest { producer, encoding } = slot.message {
                self.requests.push((ms, producer, encoding));
            }
        }
        self.core.release();
    }

    /// Ends the recording, and waits until the disk has it.
    pub fn stop(&mut self) -> Ending {
        self.record(RecordCommand::Stop(RECORDING));
        self.await_end()
    }

    pub fn await_end(&mut self) -> Ending {
        for _ in 0..5_000 {
            self.pass(10);
            if let Some(ending) = self.ended {
                return ending;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("the recording does not end");
    }

    /// The recording's folder.
    pub fn place(&self) -> PathBuf {
        let mut found = std::fs::read_dir(&self.folder).unwrap();
        found.next().expect("a folder").unwrap().path()
    }

    pub fn manifest(&self) -> serde_json::Value {
        let text = std::fs::read(self.place().join("recording.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One producer that is recorded.
pub struct Producer {
    pub id: ProducerId,
    pub film: Film,
    pub sequence: u64,
    pub encoding: u8,
    /// What its frames' packets should be in the file, with the time that they were sent at.
    pub sent: Vec<(u64, Vec<u8>)>,
    rate_hz: u32,
    payload_type: u8,
}

impl Producer {
    pub fn add(stand: &mut Stand, id: u64, codec: Codec, encodings: u8) -> Self {
        let is_audio = codec == Codec::Opus;
        let (rate_hz, payload_type) = if is_audio { (48_000, 100) } else { (90_000, 101) };
        let mapping = PayloadTypeMapping {
            incoming: 0,
            incoming_rtx: None,
            router: payload_type,
            codec,
            clock_rate_hz: rate_hz,
        };
        stand.record(RecordCommand::AddTrack(
            RECORDING,
            Box::new(TrackConfig {
                producer: ProducerId(id),
                home: CORE,
                participant: Arc::from("anna"),
                display_name: "Anna".into(),
                source: if is_audio { "microphone" } else { "camera" },
                kind: if is_audio { MediaKind::Audio } else { MediaKind::Video },
                payload_types: smallvec![mapping],
                encodings,
                muted: false,
            }),
        ));
        let film = Film::new(codec);
        let sequence = 70_000;
        let id = ProducerId(id);
        Producer { id, film, sequence, encoding: 0, sent: Vec::new(), rate_hz, payload_type }
    }

    fn rtp(&self, ms: u64) -> u32 {
        (ms * u64::from(self.rate_hz) / 1_000) as u32
    }

    /// A frame of `len` bytes, captured at `ms` of the recording.
    pub fn send(&mut self, stand: &mut Stand, ms: u64, key: bool, len: usize) {
        self.send_but(stand, ms, key, len, |_| false);
    }

    /// The same without the packets for which `is_lost` says so.
    pub fn send_but(
        &mut self,
        stand: &mut Stand,
        ms: u64,
        key: bool,
        len: usize,
        is_lost: impl Fn(usize) -> bool,
    ) {
        let (payloads, stored) = self.film.frame(key, ms as u8, len);
        let last = payloads.len() - 1;
        for (index, payload) in payloads.iter().enumerate() {
            if !is_lost(index) {
                self.packet(stand, ms, index == last, payload);
            }
            self.sequence += 1;
        }
        self.sent.push((ms, stored));
    }

    pub fn packet(&self, stand: &mut Stand, ms: u64, marker: bool, payload: &[u8]) {
        let mut bytes = vec![0x80, u8::from(marker) << 7 | self.payload_type];
        bytes.extend_from_slice(&(self.sequence as u16).to_be_bytes());
        bytes.extend_from_slice(&self.rtp(ms).to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
        let packet = MediaPacket {
            header: RtpHeader::parse(&bytes).unwrap(),
            extensions: ExtensionSpans::default(),
            payload_start: 12,
            payload_end: bytes.len() as u16,
            info: PayloadInfo::default(),
            sequence: ExtendedSeq(self.sequence),
            encoding: self.encoding,
            source: SourceId::FIRST,
        };
        let message = PipeMessage::Packet { producer: self.id, packet };
        stand.core.send(SINK, message, &bytes).unwrap();
    }

    /// Says what the stream's clock shows at `ms` of the recording.
    pub fn report(&self, stand: &mut Stand, ms: u64) {
        let clock = SenderClock { ntp: NtpTime(ms << 32), rtp: self.rtp(ms) };
        let received = ZERO + Duration::from_millis(ms);
        let report = Some(SenderReport { clock, received, late_by: 0 });
        let (producer, encoding, source) = (self.id, self.encoding, SourceId::FIRST);
        let news = SourceNews { report, max_bitrate_bps: None, known_bps: None, sent_encodings: 1 };
        let message = PipeMessage::Source { producer, encoding, source, news };
        stand.core.send(SINK, message, &[]).unwrap();
    }
}

/// Of each track by its number: milliseconds and bytes of its frames.
pub type Tracks = BTreeMap<u64, Vec<(u64, Vec<u8>)>>;

/// What an independent reader finds.
pub fn read(path: &Path) -> (MatroskaFile<File>, Tracks) {
    let mut file = MatroskaFile::open(File::open(path).unwrap()).expect("a Matroska file");
    let mut tracks = Tracks::new();
    let mut frame = Frame::default();
    while file.next_frame(&mut frame).expect("whole clusters") {
        tracks.entry(frame.track).or_default().push((frame.timestamp, frame.data.clone()));
    }
    (file, tracks)
}
