//! What begins a key frame, in streams of real encoders (libvpx, x264, OpenH264, libaom, SVT-AV1):
//! each key frame is found once, at its first packet or its parameter sets, and nothing else is
//! taken for one. `tests/data/record-encoders` recorded them.

use opencall_wire::codec::Codec;
use opencall_wire::rtp::payload::inspect;

const RECORDED: &str = include_str!("data/encoders.txt");

/// One packet of a recording.
struct Packet {
    stream: &'static str,
    picture: u32,
    is_key: bool,
    marker: bool,
    payload: Vec<u8>,
}

fn packets() -> impl Iterator<Item = Packet> {
    RECORDED.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let fields: Vec<&'static str> = line.split(' ').collect();
        let [stream, picture, key, marker, len, head] = fields[..] else { panic!("{line}") };
        let byte = |at: usize| u8::from_str_radix(&head[at..at + 2], 16).unwrap();
        // Lengths are looked at, and what lies behind the recorded bytes is not.
        let mut payload: Vec<u8> = (0..head.len()).step_by(2).map(byte).collect();
        payload.resize(len.parse().unwrap(), 0);
        Packet {
            stream,
            picture: picture.parse().unwrap(),
            is_key: key == "key",
            marker: marker != "0",
            payload,
        }
    })
}

#[test]
fn key_frames_of_real_encoders_are_found_once_and_nothing_else_is_taken_for_one() {
    let mut pictures: Vec<(&str, u32, bool, Vec<_>)> = Vec::new();
    for packet in packets() {
        let codec = match packet.stream.split('-').next() {
            Some("vp8") => Codec::Vp8,
            Some("vp9") => Codec::Vp9,
            Some("av1") => Codec::Av1,
            _ => Codec::H264,
        };
        let info = inspect(codec, &packet.payload, packet.marker, None);
        match pictures.last_mut() {
            Some((stream, picture, _, infos))
                if (*stream, *picture) == (packet.stream, packet.picture) =>
            {
                infos.push(info);
            }
            _ => pictures.push((packet.stream, packet.picture, packet.is_key, vec![info])),
        }
    }
    assert_eq!(pictures.len(), 7 * 45);
    for (stream, picture, is_key, infos) in pictures {
        let name = format!("{stream}, picture {picture}");
        let found = infos.iter().filter(|info| info.key_frame).count();
        assert!(infos.iter().any(|info| info.starts_picture), "{name}");
        assert!(infos.last().unwrap().ends_picture, "{name}");
        let is_inter = infos.iter().any(|info| info.starts_inter);
        // Parameter sets before a picture that refers to others: taken back by its first slice.
        let taken_back = stream == "h264-refresh" && is_inter;
        if !taken_back {
            assert_eq!(found, usize::from(is_key), "{name}");
        }
        assert_eq!(is_inter, stream.starts_with("h264") && !is_key, "{name}");
    }
}
