//! Matroska (RFC 9559) as it is recorded: a header whose sizes are open, then whole clusters, each
//! of about a second. What is on disk at any moment can be played. A clean end fills in what the
//! header kept room for: the segment's size, the duration, and where to find the cues.
#![forbid(unsafe_code)]

use opencall_wire::codec::Codec;

use crate::ebml::{self, Id};

/// Element ids, in the specification's order.
mod id {
    use crate::ebml::Id;

    pub const EBML: Id = Id(0x1a45_dfa3);
    pub const EBML_VERSION: Id = Id(0x4286);
    pub const EBML_READ_VERSION: Id = Id(0x42f7);
    pub const EBML_MAX_ID_LENGTH: Id = Id(0x42f2);
    pub const EBML_MAX_SIZE_LENGTH: Id = Id(0x42f3);
    pub const DOC_TYPE: Id = Id(0x4282);
    pub const DOC_TYPE_VERSION: Id = Id(0x4287);
    pub const DOC_TYPE_READ_VERSION: Id = Id(0x4285);
    pub const SEGMENT: Id = Id(0x1853_8067);
    pub const SEEK_HEAD: Id = Id(0x114d_9b74);
    pub const SEEK: Id = Id(0x4dbb);
    pub const SEEK_ID: Id = Id(0x53ab);
    pub const SEEK_POSITION: Id = Id(0x53ac);
    pub const INFO: Id = Id(0x1549_a966);
    pub const TIMESTAMP_SCALE: Id = Id(0x002a_d7b1);
    pub const DURATION: Id = Id(0x4489);
    pub const DATE_UTC: Id = Id(0x4461);
    pub const TITLE: Id = Id(0x7ba9);
    pub const MUXING_APP: Id = Id(0x4d80);
    pub const WRITING_APP: Id = Id(0x5741);
    pub const TRACKS: Id = Id(0x1654_ae6b);
    pub const TRACK_ENTRY: Id = Id(0xae);
    pub const TRACK_NUMBER: Id = Id(0xd7);
    pub const TRACK_UID: Id = Id(0x73c5);
    pub const TRACK_TYPE: Id = Id(0x83);
    pub const FLAG_LACING: Id = Id(0x9c);
    pub const NAME: Id = Id(0x536e);
    pub const LANGUAGE: Id = Id(0x0022_b59c);
    pub const CODEC_ID: Id = Id(0x86);
    pub const CODEC_PRIVATE: Id = Id(0x63a2);
    pub const SEEK_PRE_ROLL: Id = Id(0x56bb);
    pub const VIDEO: Id = Id(0xe0);
    pub const PIXEL_WIDTH: Id = Id(0xb0);
    pub const PIXEL_HEIGHT: Id = Id(0xba);
    pub const AUDIO: Id = Id(0xe1);
    pub const SAMPLING_FREQUENCY: Id = Id(0xb5);
    pub const CHANNELS: Id = Id(0x9f);
    pub const TAGS: Id = Id(0x1254_c367);
    pub const TAG: Id = Id(0x7373);
    pub const TARGETS: Id = Id(0x63c0);
    pub const SIMPLE_TAG: Id = Id(0x67c8);
    pub const TAG_NAME: Id = Id(0x45a3);
    pub const TAG_STRING: Id = Id(0x4487);
    pub const CLUSTER: Id = Id(0x1f43_b675);
    pub const TIMESTAMP: Id = Id(0xe7);
    pub const SIMPLE_BLOCK: Id = Id(0xa3);
    pub const CUES: Id = Id(0x1c53_bb6b);
    pub const CUE_POINT: Id = Id(0xbb);
    pub const CUE_TIME: Id = Id(0xb3);
    pub const CUE_TRACK_POSITIONS: Id = Id(0xb7);
    pub const CUE_TRACK: Id = Id(0xf7);
    pub const CUE_CLUSTER_POSITION: Id = Id(0xf1);
}

/// Seconds from the Unix epoch to that of Matroska's dates, 2001.
const EPOCH_S: u64 = 978_307_200;

/// What players must decode before a point that is sought to: the 80 ms that Opus needs (RFC 7845).
const OPUS_PRE_ROLL_NS: u64 = 80_000_000;

/// Room for the seek head: four entries.
const SEEK_HEAD_BYTES: usize = 104;

/// Room for the duration: id, size and eight bytes.
const DURATION_BYTES: usize = 11;

/// One track of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackHeader {
    /// From 1.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// Its codec.
    pub codec: Codec,
    /// What a decoder must know first.
    pub private: Option<Vec<u8>>,
    /// Width and height of its first picture.
    pub size: Option<(u32, u32)>,
}

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHeader {
    /// Its title.
    pub title: String,
    /// Unix time of its zero, milliseconds.
    pub unix_ms: u64,
    /// Names and values for those who look for them.
    pub tags: Vec<(&'static str, String)>,
    /// Its tracks.
    pub tracks: Vec<TrackHeader>,
}

/// Where in a file what is filled in at the end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    segment_size: u64,
    /// Where the segment's contents begin; positions inside it are counted from here.
    segment: u64,
    duration: u64,
    info: u64,
    tracks: u64,
    tags: u64,
}

/// The Matroska name of a codec; `None` for one that cannot be recorded.
pub const fn codec_id(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Opus => Some("A_OPUS"),
        Codec::Vp8 => Some("V_VP8"),
        Codec::Vp9 => Some("V_VP9"),
        Codec::H264 => Some("V_MPEG4/ISO/AVC"),
        Codec::Av1 => Some("V_AV1"),
        _ => None,
    }
}

/// The head of a file, up to its first cluster.
pub fn header(of: &FileHeader) -> (Vec<u8>, Places) {
    let mut out = Vec::with_capacity(1024);
    ebml::master(&mut out, id::EBML, |out| {
        ebml::uint(out, id::EBML_VERSION, 1);
        ebml::uint(out, id::EBML_READ_VERSION, 1);
        ebml::uint(out, id::EBML_MAX_ID_LENGTH, 4);
        ebml::uint(out, id::EBML_MAX_SIZE_LENGTH, 8);
        ebml::bytes(out, id::DOC_TYPE, b"matroska");
        ebml::uint(out, id::DOC_TYPE_VERSION, 4);
        ebml::uint(out, id::DOC_TYPE_READ_VERSION, 2);
    });
    ebml::id(&mut out, id::SEGMENT);
    let segment_size = out.len() as u64;
    out.extend_from_slice(&ebml::UNKNOWN_SIZE);
    let segment = out.len() as u64;
    ebml::void(&mut out, SEEK_HEAD_BYTES);
    let info = out.len() as u64;
    let mut inside = Vec::new();
    ebml::uint(&mut inside, id::TIMESTAMP_SCALE, 1_000_000);
    let date = (of.unix_ms as i64 - (EPOCH_S * 1_000) as i64) * 1_000_000;
    ebml::uint_of_8(&mut inside, id::DATE_UTC, date as u64);
    ebml::bytes(&mut inside, id::TITLE, of.title.as_bytes());
    ebml::bytes(&mut inside, id::MUXING_APP, b"opencall-sfu");
    ebml::bytes(&mut inside, id::WRITING_APP, b"opencall-sfu");
    let duration_at = inside.len();
    ebml::void(&mut inside, DURATION_BYTES);
    ebml::bytes(&mut out, id::INFO, &inside);
    let duration = (out.len() - inside.len() + duration_at) as u64;
    let tracks = out.len() as u64;
    ebml::master(&mut out, id::TRACKS, |out| of.tracks.iter().for_each(|track| entry(out, track)));
    let tags = out.len() as u64;
    append_tags(&mut out, &of.tags);
    (out, Places { segment_size, segment, duration, info, tracks, tags })
}

fn entry(out: &mut Vec<u8>, track: &TrackHeader) {
    let is_audio = track.codec == Codec::Opus;
    ebml::master(out, id::TRACK_ENTRY, |out| {
        ebml::uint(out, id::TRACK_NUMBER, track.number.into());
        ebml::uint(out, id::TRACK_UID, track.number.into());
        ebml::uint(out, id::TRACK_TYPE, if is_audio { 2 } else { 1 });
        ebml::uint(out, id::FLAG_LACING, 0);
        ebml::bytes(out, id::NAME, track.name.as_bytes());
        ebml::bytes(out, id::LANGUAGE, b"und");
        ebml::bytes(out, id::CODEC_ID, codec_id(track.codec).unwrap_or_default().as_bytes());
        if let Some(private) = &track.private {
            ebml::bytes(out, id::CODEC_PRIVATE, private);
        }
        if is_audio {
            ebml::uint(out, id::SEEK_PRE_ROLL, OPUS_PRE_ROLL_NS);
            ebml::master(out, id::AUDIO, |out| {
                ebml::float(out, id::SAMPLING_FREQUENCY, 48_000.0);
                ebml::uint(out, id::CHANNELS, 2);
            });
        } else {
            let (width, height) = track.size.unwrap_or((1, 1));
            ebml::master(out, id::VIDEO, |out| {
                ebml::uint(out, id::PIXEL_WIDTH, width.into());
                ebml::uint(out, id::PIXEL_HEIGHT, height.into());
            });
        }
    });
}

fn append_tags(out: &mut Vec<u8>, tags: &[(&str, String)]) {
    ebml::master(out, id::TAGS, |out| {
        ebml::master(out, id::TAG, |out| {
            ebml::master(out, id::TARGETS, |_| {});
            for (name, value) in tags {
                ebml::master(out, id::SIMPLE_TAG, |out| {
                    ebml::bytes(out, id::TAG_NAME, name.as_bytes());
                    ebml::bytes(out, id::TAG_STRING, value.as_bytes());
                });
            }
        });
    });
}

/// The head of an Opus stream that is joined in the middle: two channels, nothing to skip
/// (RFC 7845 section 5.1).
pub fn opus_head() -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend_from_slice(&[1, 2, 0, 0]);
    head.extend_from_slice(&48_000_u32.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// A cluster that is being filled.
#[derive(Debug)]
pub struct Cluster {
    time_ms: u64,
    blocks: Vec<u8>,
}

impl Cluster {
    /// One that begins with a frame of this time.
    pub fn new(time_ms: u64) -> Self {
        Cluster { time_ms, blocks: Vec::new() }
    }

    /// When it begins.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Whether a frame of this time can be in it: times in a cluster are 16 bits.
    pub fn spans(&self, time_ms: u64) -> bool {
        i16::try_from(time_ms as i64 - self.time_ms as i64).is_ok()
    }

    /// Adds a frame, of a time that it [spans](Self::spans).
    pub fn push(&mut self, track: u8, time_ms: u64, key: bool, data: &[u8]) {
        let relative = (time_ms as i64 - self.time_ms as i64) as i16;
        ebml::id(&mut self.blocks, id::SIMPLE_BLOCK);
        ebml::size(&mut self.blocks, data.len() + 4);
        self.blocks.push(0x80 | track);
        self.blocks.extend_from_slice(&relative.to_be_bytes());
        self.blocks.push(if key { 0x80 } else { 0 });
        self.blocks.extend_from_slice(data);
    }

    /// Its bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut time = Vec::with_capacity(12);
        ebml::uint(&mut time, id::TIMESTAMP, self.time_ms);
        let mut out = Vec::with_capacity(self.blocks.len() + 24);
        ebml::id(&mut out, id::CLUSTER);
        ebml::size(&mut out, time.len() + self.blocks.len());
        out.extend_from_slice(&time);
        out.extend_from_slice(&self.blocks);
        out
    }
}

/// Where one can begin to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cue {
    /// When.
    pub time_ms: u64,
    /// Which track.
    pub track: u8,
    /// Where in the file its cluster stands.
    pub at: u64,
}

/// The cues, as they stand at the end of a file.
pub fn cues(places: &Places, cues: &[Cue]) -> Vec<u8> {
    let mut out = Vec::new();
    ebml::master(&mut out, id::CUES, |out| {
        for cue in cues {
            ebml::master(out, id::CUE_POINT, |out| {
                ebml::uint(out, id::CUE_TIME, cue.time_ms);
                ebml::master(out, id::CUE_TRACK_POSITIONS, |out| {
                    ebml::uint(out, id::CUE_TRACK, cue.track.into());
                    ebml::uint(out, id::CUE_CLUSTER_POSITION, cue.at - places.segment);
                });
            });
        }
    });
    out
}

/// What is filled in at the end of a file of `len` bytes, whose cues stand at `cues_at`: where, and
/// what.
pub fn patches(places: &Places, len: u64, cues_at: u64, duration_ms: u64) -> [(u64, Vec<u8>); 3] {
    let size = ebml::size_of_8(len - places.segment).to_vec();
    let mut duration = Vec::new();
    ebml::float(&mut duration, id::DURATION, duration_ms as f64);
    let mut seek = Vec::new();
    let targets = [
        (id::INFO, places.info),
        (id::TRACKS, places.tracks),
        (id::TAGS, places.tags),
        (id::CUES, cues_at),
    ];
    ebml::master(&mut seek, id::SEEK_HEAD, |out| {
        for (Id(target), at) in targets {
            ebml::master(out, id::SEEK, |out| {
                ebml::bytes(out, id::SEEK_ID, &target.to_be_bytes());
                ebml::uint_of_8(out, id::SEEK_POSITION, at - places.segment);
            });
        }
    });
    let room = SEEK_HEAD_BYTES - seek.len();
    ebml::void(&mut seek, room);
    [(places.segment_size, size), (places.duration, duration), (places.segment, seek)]
}
