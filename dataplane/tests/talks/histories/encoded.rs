//! A film by real encoders, and real decoders: each picture shows its number in black and white,
//! and is read back from the pixels. By ffmpeg, with libvpx, x264, libaom and dav1d in it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;

use opencall_wire::codec::Codec;

use super::film::{CLIP, Film, Place, is_key};
use super::sender::Picture;
use super::track::{LAYERS, SCREEN};

/// Pictures of the film: as many as are sent in a history with a key picture asked for at all
/// times.
const PICTURES: u32 = 50 * CLIP;

/// Sizes of the camera's encodings and the screen's.
const SIZES: [(usize, usize); LAYERS + 1] = [(160, 96), (240, 144), (320, 192), (320, 192)];

/// Decoded pictures are scaled to this size.
const READ: (usize, usize) = (160, 96);

/// Bits of the number, those of the track behind them; and the fields that show them, each bit once
/// as it is and once inverted.
const NUMBER_BITS: u32 = 12;
const BITS: u32 = 14;
const COLUMNS: usize = 7;
const ROWS: usize = 4;

/// Odd: neighbouring numbers differ in half of their bits, so that no picture looks like the one
/// before.
const SCRAMBLE: u32 = 2741;

/// An encoded film: pictures of each track.
pub struct Encoded {
    codec: Codec,
    pattern: &'static [Place],
    tracks: Vec<Vec<Vec<u8>>>,
}

impl Film for Rc<Encoded> {
    fn codec(&self) -> Codec {
        self.codec
    }

    fn pattern(&self) -> &'static [Place] {
        self.pattern
    }

    fn picture(&self, layer: usize, number: u32) -> Option<Vec<u8>> {
        self.tracks[layer].get(number as usize).cloned()
    }
}

impl Encoded {
    pub fn new(codec: Codec, pattern: &'static [Place]) -> Rc<Self> {
        let tracks = (0..=SCREEN).map(|track| encode(codec, pattern, track)).collect();
        Rc::new(Encoded { codec, pattern, tracks })
    }
}

/// The bits that a picture shows.
fn code(picture: Picture) -> u32 {
    let scrambled = picture.number.wrapping_mul(SCRAMBLE) % (1 << NUMBER_BITS);
    scrambled | (picture.track as u32) << NUMBER_BITS
}

/// Whether the field at a place is white.
fn is_white(code: u32, column: usize, row: usize) -> bool {
    let field = (row * COLUMNS + column) as u32;
    (code >> (field % BITS) & 1 == 1) != (field >= BITS)
}

/// A picture in planes of luma and chroma.
fn draw(picture: Picture, (width, height): (usize, usize)) -> Vec<u8> {
    let code = code(picture);
    let luma = (0..width * height).map(|at| {
        let (x, y) = (at % width, at / width);
        if is_white(code, x * COLUMNS / width, y * ROWS / height) { 220 } else { 30 }
    });
    luma.chain(std::iter::repeat_n(128, width * height / 2)).collect()
}

/// What a decoded picture shows: its bits, or `None` if a field and its inverse agree.
fn read_code(luma: &[u8]) -> Option<u32> {
    let (width, height) = READ;
    let shows = |field: usize| {
        let (column, row) = (field % COLUMNS, field / COLUMNS);
        let x = (2 * column + 1) * width / (2 * COLUMNS);
        let y = (2 * row + 1) * height / (2 * ROWS);
        let pixels = (y - 4..y + 4).flat_map(|y| &luma[y * width + x - 4..y * width + x + 4]);
        pixels.map(|&pixel| u32::from(pixel)).sum::<u32>() / 64 > 125
    };
    (0..BITS as usize).try_fold(0, |code, bit| {
        let white = shows(bit);
        (white != shows(bit + BITS as usize)).then_some(code | u32::from(white) << bit)
    })
}

/// Runs ffmpeg on `input`.
fn ffmpeg(arguments: &str, input: Vec<u8>) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "fatal", "-nostdin", "-threads", "1"])
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed");
    let mut stdin = child.stdin.take().unwrap();
    // It may stop reading early, which its output tells.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "ffmpeg {arguments}");
    output
}

/// Three temporal layers of libvpx, as the film's pattern has them.
const TEMPORAL: &str = "-error-resilient default -ts-parameters ts_number_layers=3:\
    ts_target_bitrate=100,150,250:ts_rate_decimator=4,2,1:ts_periodicity=4:ts_layer_id=0,2,1,2:\
    ts_layering_mode=3";

fn encode(codec: Codec, pattern: &[Place], track: usize) -> Vec<Vec<u8>> {
    let size = SIZES[track];
    let drawn = (0..PICTURES).flat_map(|number| draw(Picture { track, number }, size));
    let encoder = match codec {
        Codec::Vp8 => {
            "libvpx -deadline realtime -cpu-used 8 -auto-alt-ref 0 -lag-in-frames 0 -f ivf"
        }
        Codec::Vp9 => {
            "libvpx-vp9 -deadline realtime -cpu-used 8 -auto-alt-ref 0 -lag-in-frames 0 -f ivf"
        }
        Codec::H264 => {
            "libx264 -preset ultrafast -tune zerolatency -profile baseline -sc_threshold 0 \
             -slices 2 -f h264"
        }
        _ => "libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0 -f ivf",
    };
    let layers = if pattern.len() > 1 { TEMPORAL } else { "" };
    let (width, height) = size;
    let stream = ffmpeg(
        &format!(
            "-f rawvideo -pix_fmt yuv420p -s {width}x{height} -r 15 -i pipe:0 -threads 1 \
             -b:v 250k -g {CLIP} -keyint_min {CLIP} -c:v {encoder} {layers} pipe:1"
        ),
        drawn.collect(),
    );
    let pictures: Vec<Vec<u8>> = match codec {
        Codec::H264 => access_units(&stream),
        Codec::Av1 => ivf_frames(&stream).map(without_delimiter).map(<[u8]>::to_vec).collect(),
        _ => ivf_frames(&stream).map(<[u8]>::to_vec).collect(),
    };
    assert_eq!(pictures.len(), PICTURES as usize, "{codec:?}");
    for (number, picture) in pictures.iter().enumerate() {
        assert_eq!(begins_with_key(codec, picture), is_key(number as u32), "{codec:?} {number}");
    }
    pictures
}

fn ivf_frames(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &file[32..];
    std::iter::from_fn(move || {
        let (header, frames) = rest.split_first_chunk::<12>()?;
        let len = u32::from_le_bytes(*header.first_chunk().unwrap());
        let (frame, next) = frames.split_at(len as usize);
        rest = next;
        Some(frame)
    })
}

/// An AV1 temporal unit without its temporal delimiter.
fn without_delimiter(unit: &[u8]) -> &[u8] {
    unit.strip_prefix(&[0x12, 0]).unwrap_or(unit)
}

/// Cuts a stream of H.264 before each picture: at what is no slice, or the first slice of one.
fn access_units(stream: &[u8]) -> Vec<Vec<u8>> {
    let starts: Vec<usize> =
        (0..stream.len() - 4).filter(|&at| stream[at..at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    let mut follows_slice = true;
    for (&start, end) in starts.iter().zip(ends) {
        let unit = &stream[start..end];
        let is_slice = matches!(unit[3] & 0x1f, 1 | 5);
        if follows_slice && (!is_slice || unit[4] & 0x80 != 0) {
            pictures.push(Vec::new());
        }
        follows_slice = is_slice;
        let picture = pictures.last_mut().unwrap();
        picture.push(0);
        // The zero that ends a unit is the first byte of the next one's start code.
        picture.extend(unit.strip_suffix(&[0]).filter(|_| end < stream.len()).unwrap_or(unit));
    }
    pictures
}

fn begins_with_key(codec: Codec, picture: &[u8]) -> bool {
    match codec {
        Codec::Vp8 => picture[0] & 1 == 0,
        // A frame marker, profile 0, no existing frame shown, and then the type.
        Codec::Vp9 => picture[0] & 0x0c == 0,
        Codec::H264 => picture[4] & 0x1f == 7,
        // A sequence header.
        _ => picture[0] >> 3 & 0x0f == 1,
    }
}

/// What real decoders show for these pictures, one after the other: how many there are, and those
/// that show something else than they are.
pub fn wrong_pictures(codec: Codec, pictures: &[(Picture, &[u8])]) -> (usize, Vec<String>) {
    let (input, decoder) = match codec {
        Codec::Vp8 => (ivf(*b"VP80", pictures), "-f ivf -c:v libvpx"),
        Codec::Vp9 => (ivf(*b"VP90", pictures), "-f ivf -c:v libvpx-vp9"),
        Codec::H264 => {
            (pictures.iter().flat_map(|(_, bytes)| *bytes).copied().collect(), "-f h264 -c:v h264")
        }
        _ => (ivf(*b"AV01", pictures), "-f ivf -c:v libdav1d"),
    };
    let (width, height) = READ;
    let luma = ffmpeg(
        &format!(
            "{decoder} -i pipe:0 -fps_mode passthrough \
             -vf scale={width}:{height}:flags=area,format=gray -f rawvideo pipe:1"
        ),
        input,
    );
    let shown = luma.chunks_exact(width * height).map(read_code);
    let count = shown.len();
    let compared = pictures.iter().zip(shown);
    let wrong = compared.filter(|((picture, _), shown)| *shown != Some(code(*picture)));
    let wrong =
        wrong.map(|((picture, _), shown)| format!("{picture:?} shows {shown:x?}")).collect();
    (count, wrong)
}

fn ivf(codec: [u8; 4], pictures: &[(Picture, &[u8])]) -> Vec<u8> {
    let mut file =
        [&b"DKIF\0\0\x20\0"[..], &codec, &[160, 0, 96, 0, 15, 0, 0, 0, 1, 0, 0, 0]].concat();
    file.extend((pictures.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    for (n, (_, bytes)) in pictures.iter().enumerate() {
        let delimiter: &[u8] = if codec == *b"AV01" { &[0x12, 0] } else { &[] };
        file.extend(((bytes.len() + delimiter.len()) as u32).to_le_bytes());
        file.extend((n as u64).to_le_bytes());
        file.extend(delimiter);
        file.extend(*bytes);
    }
    file
}
