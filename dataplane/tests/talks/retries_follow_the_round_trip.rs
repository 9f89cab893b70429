//! Who only sends to us measures no round trip for us: we say what time it is, and the client how
//! long it held that (RFC 3611 sections 4.4 and 4.5). What is missing is asked for again a quarter
//! more than a round trip later.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtcp::{self, DelaySinceLastRr, ExtendedBlock, Packet};
use opencall_wire::time::Time;

use crate::world::*;

const SSRC: u32 = 1000;

/// How long the client holds each reference time before it answers, beside the network's time.
const HELD: Duration = Duration::from_millis(300);

fn send(world: &World, client: &mut Client, sequence: u16) {
    let timestamp = u32::from(sequence) * 900;
    let key = sequence == 1;
    let video = Video { ssrc: SSRC, rid: None, sequence, timestamp, picture_id: sequence, key };
    client.send_video(world, video);
}

/// When each NACK went out, and the last reference time with the SSRC that said it.
fn read(control: &[Vec<u8>]) -> (usize, Option<(u32, u32)>) {
    let (mut nacks, mut reference) = (0, None);
    for packet in control.iter().flat_map(|compound| rtcp::packets(compound)) {
        match packet.unwrap() {
            Packet::Nack(nack) => nacks += nack.sequences().count(),
            Packet::ExtendedReport(report) => {
                for block in report.blocks() {
                    let ExtendedBlock::ReceiverReferenceTime(ntp) = block else { panic!() };
                    reference = Some((report.ssrc, ntp.middle()));
                }
            }
            _ => {}
        }
    }
    (nacks, reference)
}

/// A client that far away loses a packet after three seconds; the times between requests for it,
/// and the round trip in the producer's statistics, milliseconds.
fn lose_one(answers_after: Option<Duration>, wrong_ssrc: bool) -> (Vec<u64>, Option<f32>) {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Video, &[SSRC]);
    let mut owed: Option<(Time, u32, u32)> = None;
    let mut asked: Vec<Time> = Vec::new();
    for sequence in 1..=400 {
        if sequence != 300 {
            send(&world, &mut speaker, sequence);
        }
        world.run(Duration::from_millis(10));
        let (_, control) = speaker.receive(&mut world);
        let (nacks, reference) = read(&control);
        asked.extend((0..nacks).map(|_| world.now));
        if let (Some((ssrc, middle)), Some(delay)) = (reference, answers_after) {
            owed = Some((world.now + delay + HELD, ssrc, middle));
        }
        if let Some((_, ssrc, last_rr)) = owed.take_if(|(due, ..)| *due <= world.now) {
            let ssrc = ssrc ^ u32::from(wrong_ssrc);
            let delay_since_last_rr = (HELD.as_millis() as u32 * 65_536) / 1000;
            let item = DelaySinceLastRr { ssrc, last_rr, delay_since_last_rr };
            speaker.send_rtcp(&world, |writer| writer.dlrr(SSRC, &[item]).unwrap());
        }
    }
    let gaps = asked.windows(2).map(|pair| pair[1].since(pair[0]).as_millis() as u64).collect();
    let query = Command::QueryStats { token: 7, of: StatsQuery::Producer(source.id) };
    world.command(CoreId(0), query);
    world.turn();
    let round_trip_ms = world.events.iter().find_map(|event| match event {
        Event::Stats { token: 7, stats: Some(stats) } => match stats.as_ref() {
            Stats::Producer(streams) => Some(streams[0].round_trip_ms),
            _ => None,
        },
        _ => None,
    });
    (gaps, round_trip_ms.expect("statistics are answered"))
}

#[test]
fn retries_follow_the_round_trip() {
    for (answers_after, wrong_ssrc, gap_ms) in
        [(None, false, 125), (Some(40), true, 125), (Some(40), false, 50), (Some(120), false, 150)]
    {
        let (gaps, round_trip_ms) = lose_one(answers_after.map(Duration::from_millis), wrong_ssrc);
        assert!(gaps.len() >= 3, "{gaps:?}");
        // The client looks every 10 ms, which is in the round trip too.
        let all = gaps.iter().all(|gap| gap.abs_diff(gap_ms) <= 20);
        assert!(all, "{answers_after:?}: {gaps:?} instead of {gap_ms}");
        let known = answers_after.filter(|_| !wrong_ssrc);
        assert_eq!(round_trip_ms.is_some(), known.is_some());
        let far =
            round_trip_ms.zip(known).is_some_and(|(ms, real)| (ms - real as f32).abs() > 12.0);
        assert!(!far, "{round_trip_ms:?} instead of {known:?}");
    }
}
