//! Over random histories of a call, real decoders show the right pictures: each shows its number,
//! drawn into the pixels before it was encoded and read from them after it was decoded.
//!
//! Needs ffmpeg: `scripts/prove decode`. What refers to what is checked without it, in
//! every_report_tells_the_senders_clock.

use std::time::Duration;

use opencall_wire::codec::Codec;

use crate::histories::encoded::{Encoded, wrong_pictures};
use crate::histories::film::{CLIP, Film, L1T1, L1T3, Place};
use crate::histories::sender::Picture;
use crate::histories::{play, seeds};

fn assert_right(codec: Codec, pattern: &'static [Place]) {
    let film = Encoded::new(codec, pattern);
    assert_missing_picture_is_noticed(codec, &film);
    let (mut decoded, mut faults) = (0, Vec::new());
    for seed in seeds(10) {
        let outcome = play(seed, Box::new(film.clone()), Duration::ZERO);
        let seats = outcome.hearers.iter().flat_map(|hearer| &hearer.seats);
        // All streams in a row: each begins with a key picture, which decoders begin anew with.
        let shown = seats.flat_map(|seat| &seat.shown);
        let pictures: Vec<(Picture, &[u8])> =
            shown.map(|shown| (shown.picture, &shown.bytes[..])).collect();
        let (count, wrong) = wrong_pictures(codec, &pictures);
        let lacking = (count != pictures.len())
            .then(|| format!("{count} pictures were decoded of {}", pictures.len()));
        let all = outcome.faults.into_iter().chain(lacking).chain(wrong);
        faults.extend(all.map(|fault| format!("seed {seed}: {fault}")));
        decoded += count;
    }
    println!("{codec:?}: {decoded} pictures decoded, {} faults", faults.len());
    assert!(faults.is_empty(), "{codec:?}, {} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The canary: without the second picture of the lowest layer, those after it are wrong.
fn assert_missing_picture_is_noticed(codec: Codec, film: &impl Film) {
    let period = film.pattern().len();
    let whole: Vec<(Picture, Vec<u8>)> = (0..2 * CLIP)
        .map(|number| (Picture { track: 1, number }, film.picture(1, number).unwrap()))
        .collect();
    let mut pictures: Vec<(Picture, &[u8])> =
        whole.iter().map(|(picture, bytes)| (*picture, &bytes[..])).collect();
    assert_eq!(wrong_pictures(codec, &pictures), (pictures.len(), Vec::new()));
    pictures.remove(period);
    let (count, wrong) = wrong_pictures(codec, &pictures);
    assert!(count != pictures.len() || !wrong.is_empty(), "{codec:?}: nothing is noticed");
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_vp8_is_decoded() {
    assert_right(Codec::Vp8, L1T1);
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_vp9_is_decoded() {
    assert_right(Codec::Vp9, L1T1);
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_vp8_in_temporal_layers_is_decoded() {
    assert_right(Codec::Vp8, L1T3);
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_vp9_in_temporal_layers_is_decoded() {
    assert_right(Codec::Vp9, L1T3);
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_h264_is_decoded() {
    assert_right(Codec::H264, L1T1);
}

#[test]
#[ignore = "needs ffmpeg: scripts/prove decode"]
fn no_wrong_picture_of_av1_is_decoded() {
    assert_right(Codec::Av1, L1T1);
}
