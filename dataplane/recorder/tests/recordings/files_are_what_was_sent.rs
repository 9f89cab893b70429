//! Frames come out as they went in, at their time, whatever happens to the server meanwhile.

use std::time::Duration;

use opencall_recorder::message::Ending;
use opencall_wire::codec::Codec;

use crate::stand::{Producer, Stand, read};

/// Three seconds of a voice and a camera.
fn film(stand: &mut Stand, codec: Codec) -> [Producer; 2] {
    let mut voice = Producer::add(stand, 1, Codec::Opus, 1);
    let mut camera = Producer::add(stand, 2, codec, 1);
    voice.report(stand, 0);
    camera.report(stand, 0);
    for ms in (0..3_000).step_by(20) {
        voice.send(stand, ms, true, 80);
        if ms % 40 == 0 {
            camera.send(stand, ms, ms % 2_000 == 0, 2_500 + ms as usize);
        }
        stand.pass(20);
    }
    [voice, camera]
}

#[test]
fn each_codec_comes_out_as_it_went_in() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let mut stand = Stand::new(&format!("{codec:?}"));
        let sent = film(&mut stand, codec);
        assert_eq!(stand.stop(), Ending::Stopped);
        let (file, tracks) = read(&stand.place().join("anna-1.mkv"));
        assert_eq!(tracks.len(), 2, "{codec:?}");
        for entry in file.tracks() {
            let of = &sent[usize::from(entry.video().is_some())];
            assert_eq!(tracks[&entry.track_number().get()], of.sent, "{codec:?}");
            if let Some(video) = entry.video() {
                let size = (video.pixel_width().get(), video.pixel_height().get());
                assert_eq!(size, (640, 360), "{codec:?}");
            }
        }
        assert_eq!(file.info().duration(), Some(2_980.0));
        assert!(file.tags().is_some_and(|tags| !tags.is_empty()));
        let manifest = stand.manifest();
        assert_eq!(manifest["state"], "stopped");
        let anna = &manifest["participants"][0];
        assert_eq!((&anna["participant"], &anna["displayName"]), (&"anna".into(), &"Anna".into()));
        assert_eq!(anna["files"][0]["startMs"], 0);
        assert_eq!(anna["files"][0]["durationMs"], 2_980);
        let path = stand.place().join("anna-1.mkv");
        assert_eq!(anna["files"][0]["bytes"], path.metadata().unwrap().len());
        assert_eq!(manifest["packetsLost"], 0);
    }
}

#[test]
fn one_can_jump_into_a_file_that_was_ended() {
    let mut stand = Stand::new("jump");
    film(&mut stand, Codec::Vp8);
    stand.stop();
    let (mut file, _) = read(&stand.place().join("anna-1.mkv"));
    let mut frame = matroska_demuxer::Frame::default();
    file.seek(2_500).expect("cues");
    assert!(file.next_frame(&mut frame).unwrap());
    assert!((1_000..=2_500).contains(&frame.timestamp), "{}", frame.timestamp);
}

#[test]
fn what_is_on_the_disk_when_the_server_dies_can_be_played() {
    let mut stand = Stand::new("died");
    film(&mut stand, Codec::Vp8);
    let path = stand.place().join("anna-1.mkv");
    let mut last = 0;
    // The disk has its own time.
    for _ in 0..1_000 {
        std::thread::sleep(Duration::from_millis(2));
        if path.exists() && path.metadata().unwrap().len() > 100 {
            let (_, tracks) = read(&path);
            last = tracks
                .values()
                .filter_map(|frames| frames.last())
                .map(|(at, _)| *at)
                .min()
                .unwrap_or(0);
            if last > 1_800 {
                break;
            }
        }
    }
    assert!(last > 1_800, "no more than the last second is missing: {last}");
    assert_eq!(stand.manifest()["state"], "recording");
}

#[test]
fn a_track_that_comes_later_has_another_file_that_says_when() {
    let mut stand = Stand::new("later");
    let mut voice = Producer::add(&mut stand, 1, Codec::Opus, 1);
    let mut screen = None;
    for ms in (0..6_000).step_by(20) {
        voice.send(&mut stand, ms, true, 60);
        if ms == 3_000 {
            screen = Some(Producer::add(&mut stand, 2, Codec::Vp8, 1));
        }
        if let Some(screen) = screen.as_mut().filter(|_| ms % 100 == 0) {
            screen.send(&mut stand, ms, ms == 3_500, 500);
        }
        stand.pass(20);
    }
    stand.stop();
    let manifest = stand.manifest();
    let files = manifest["participants"][0]["files"].as_array().unwrap();
    let start =
        |name: &str| files.iter().find(|file| file["file"] == name).unwrap()["startMs"].clone();
    assert_eq!(files.len(), 2);
    assert!(start("anna-1.mkv").as_u64().unwrap() <= 20);
    let later = start("anna-2.mkv").as_u64().unwrap();
    assert!((3_500..3_600).contains(&later), "from its first key frame: {later}");
    let (_, tracks) = read(&stand.place().join("anna-2.mkv"));
    assert_eq!(tracks[&1][0].0, 0);
    assert_eq!(tracks[&1].len(), 25);
}
