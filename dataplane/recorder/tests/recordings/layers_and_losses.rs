//! What is missing is asked for, named and no more than itself; of several layers the highest is
//! recorded; and anything may come.

use opencall_dataplane::message::ProducerId;
use opencall_recorder::message::RecordCommand;
use opencall_wire::codec::Codec;

use crate::stand::{Producer, Stand, read};

#[test]
fn after_a_loss_a_picture_goes_on_with_the_key_frame_that_was_asked_for() {
    let mut stand = Stand::new("loss");
    let mut camera = Producer::add(&mut stand, 2, Codec::Vp8, 1);
    camera.report(&mut stand, 0);
    let mut asked_at = None;
    for ms in (0..6_000).step_by(40) {
        let asked = stand.requests.iter().find(|(at, ..)| *at > 1_000).map(|(at, ..)| *at);
        let key = ms == 0 || asked.is_some() && asked_at.is_none();
        asked_at = asked_at.or(asked.map(|_| ms));
        camera.send_but(&mut stand, ms, key, 3_000, |index| ms == 1_000 && index == 1);
        stand.pass(40);
    }
    stand.stop();
    let key_ms = asked_at.expect("a key frame is asked for");
    assert!((2_500..2_700).contains(&key_ms), "once the packet is given up: {key_ms}");
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    let times: Vec<u64> = tracks[&1].iter().map(|(at, _)| *at).collect();
    assert!(times.contains(&960) && !times.contains(&1_000) && !times.contains(&(key_ms - 40)));
    assert!(times.contains(&key_ms) && times.contains(&5_960));
    let manifest = stand.manifest();
    assert_eq!(manifest["packetsLost"], 1);
    let track = &manifest["participants"][0]["tracks"][0];
    assert_eq!(track["gaps"], serde_json::json!([[960, key_ms]]));
}

#[test]
fn what_comes_late_but_comes_is_in_its_place() {
    let mut stand = Stand::new("late");
    let mut camera = Producer::add(&mut stand, 2, Codec::Vp8, 1);
    camera.send(&mut stand, 0, true, 2_000);
    stand.pass(40);
    let (payloads, stored) = camera.film.frame(false, 7, 2_000);
    let first = camera.sequence;
    camera.sequence += 1;
    for (index, payload) in payloads.iter().enumerate().skip(1) {
        camera.packet(&mut stand, 40, index + 1 == payloads.len(), payload);
        camera.sequence += 1;
    }
    stand.pass(1_400);
    let next = std::mem::replace(&mut camera.sequence, first);
    camera.packet(&mut stand, 40, false, &payloads[0]);
    camera.sequence = next;
    camera.sent.push((40, stored));
    camera.send(&mut stand, 1_440, false, 100);
    stand.pass(100);
    stand.stop();
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    let bytes =
        |frames: &[(u64, Vec<u8>)]| frames.iter().map(|(_, b)| b.clone()).collect::<Vec<_>>();
    assert_eq!(bytes(&tracks[&1]), bytes(&camera.sent));
    assert_eq!(stand.manifest()["packetsLost"], 0);
}

#[test]
fn the_highest_layer_that_arrives_is_recorded_from_its_key_frame_on() {
    let mut stand = Stand::new("layers");
    let mut camera = Producer::add(&mut stand, 2, Codec::Vp8, 3);
    let mut sequences = [70_000, 80_000, 90_000];
    // Of two that begin at once the first one's frame is there already.
    let mut expected = vec![1_010];
    for ms in (0..6_000).step_by(40) {
        for encoding in 0..3_u8 {
            let arrives = encoding < 2 || (2_000..4_000).contains(&ms);
            if !arrives {
                continue;
            }
            let key = ms == 0 || (encoding == 2 && ms == 2_400) || (encoding == 1 && ms == 5_600);
            camera.encoding = encoding;
            camera.sequence = sequences[usize::from(encoding)];
            camera.send(&mut stand, ms, key, 1_000 * (usize::from(encoding) + 1));
            sequences[usize::from(encoding)] = camera.sequence;
            let is_recorded = match ms {
                0..2_400 | 5_600.. => encoding == 1,
                // The last frame of the lower one comes before the key frame of the higher.
                2_400 => encoding >= 1,
                _ => encoding == 2,
            };
            if is_recorded {
                expected.push(camera.sent.last().unwrap().1.len());
            }
        }
        stand.pass(40);
    }
    stand.stop();
    assert!(stand.requests.iter().any(|&(ms, id, encoding)| {
        (2_000..2_100).contains(&ms) && id == ProducerId(2) && encoding == 2
    }));
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    let lens: Vec<usize> = tracks[&1].iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lens, expected);
}

#[test]
fn a_layer_of_which_padding_alone_comes_is_sent_no_more() {
    let mut stand = Stand::new("padding");
    let mut camera = Producer::add(&mut stand, 2, Codec::Vp8, 3);
    let mut sequences = [70_000, 80_000, 90_000];
    for ms in (0..8_000).step_by(40) {
        for encoding in [1, 2] {
            camera.encoding = encoding;
            camera.sequence = sequences[usize::from(encoding)];
            let asked = stand.requests.iter().any(|(at, _, of)| *at >= ms - 40 && *of == encoding);
            match encoding == 2 && ms >= 2_000 {
                true => {
                    camera.packet(&mut stand, ms, false, &[]);
                    camera.sequence += 1;
                }
                false => camera.send(&mut stand, ms, ms == 0 || asked, 1_000),
            }
            sequences[usize::from(encoding)] = camera.sequence;
        }
        stand.pass(40);
    }
    stand.stop();
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    let last = tracks[&1].last().expect("pictures").0;
    assert!(last > 7_900, "the other layer goes on: {last}");
}

#[test]
fn what_follows_padding_after_a_silence_is_when_it_was() {
    let mut stand = Stand::new("padded silence");
    let mut screen = Producer::add(&mut stand, 2, Codec::Vp8, 1);
    for ms in (0..4_000).step_by(40) {
        screen.send(&mut stand, ms, ms == 0, 500);
        stand.pass(40);
    }
    screen.packet(&mut stand, 4_000, false, &[]);
    screen.sequence += 1;
    stand.pass(10_000);
    screen.send(&mut stand, 14_000, true, 500);
    stand.pass(1_000);
    stand.stop();
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    let times: Vec<u64> = tracks[&1].iter().map(|(at, _)| *at).collect();
    let passed = times[times.len() - 1] - times[times.len() - 2];
    assert!((9_900..10_200).contains(&passed), "{passed}");
}

#[test]
fn a_pause_is_named_and_no_loss() {
    let mut stand = Stand::new("pause");
    let mut camera = Producer::add(&mut stand, 2, Codec::Vp8, 1);
    for ms in (0..6_000).step_by(40) {
        let muted = match ms {
            2_000 => Some(true),
            4_000 => Some(false),
            _ => None,
        };
        if let Some(muted) = muted {
            stand.record(RecordCommand::Mute { producer: camera.id, muted });
        }
        let (count, is_paused) = (camera.sequence, (2_000..4_000).contains(&ms));
        camera.send_but(&mut stand, ms, ms == 0 || ms == 4_200, 900, |_| is_paused);
        assert!(camera.sequence > count);
        stand.pass(40);
    }
    stand.stop();
    let manifest = stand.manifest();
    assert_eq!(manifest["packetsLost"], 0);
    let track = &manifest["participants"][0]["tracks"][0];
    assert_eq!(track["muted"], serde_json::json!([[2_000, 4_000]]));
    assert_eq!(track["gaps"], serde_json::json!([]));
    assert!(stand.requests.iter().any(|(ms, ..)| (4_000..4_100).contains(ms)), "asked at once");
    let (_, tracks) = read(&stand.place().join("anna-1.mkv"));
    assert!(tracks[&1].iter().any(|(at, _)| *at == 4_200));
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }
}

#[test]
fn anything_may_come_and_the_file_can_be_read() {
    for (seed, codec) in
        [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1].into_iter().enumerate()
    {
        let mut stand = Stand::new(&format!("forged-{codec:?}"));
        let mut dice = Dice(77 + seed as u64);
        let mut camera = Producer::add(&mut stand, 2, codec, 1);
        camera.send(&mut stand, 0, true, 1_000);
        for _ in 0..8_000 {
            let ms = dice.throw(20_000) as u64;
            let (mut payloads, _) = camera.film.frame(dice.throw(3) == 0, 5, dice.throw(3_000));
            for payload in &mut payloads {
                for _ in 0..dice.throw(4) {
                    let at = dice.throw(payload.len().clamp(1, 24));
                    if let Some(byte) = payload.get_mut(at) {
                        *byte = dice.throw(256) as u8;
                    }
                }
                payload.truncate(dice.throw(payload.len() * 8 + 1).min(1_200));
                camera.sequence = camera.sequence.wrapping_add(dice.throw(5) as u64) - 1;
                let marker = dice.throw(2) == 0;
                camera.packet(&mut stand, ms, marker, payload);
            }
            stand.pass(10);
        }
        stand.stop();
        for entry in std::fs::read_dir(stand.place()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "mkv") {
                read(&path);
            }
        }
    }
}
