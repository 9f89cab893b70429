//! Feedback takes nothing from the heap once buffers have grown, an estimator stays within its
//! memory, and no feedback, however false, makes it panic or leave its bounds.

mod estimator_support;

use std::time::Duration;

use estimator_support::{Link, Phase, Random, Receiver};
use opencall_dataplane::congestion::{Config, Demand, Estimator, MIN_BPS, Scratch};
use opencall_wire::rtcp::{Packet, packets};
use opencall_wire::time::Time;

const STEP: Duration = Duration::from_millis(1);

/// Sends 1 Mbit/s over a lossy link; feedback is measured after so many seconds.
#[test]
fn feedback_takes_nothing_from_the_heap() {
    let phase = Phase { from_s: 0.0, rate_bps: 2e6, delay_ms: 20.0, loss: 0.02 };
    let mut link = Link::new(3, &[phase]);
    let mut receiver = Receiver::new(60);
    let mut scratch = Scratch::default();
    let mut now = Time::ZERO;
    let created = allocation_counter::measure(|| {
        let mut estimator = Estimator::new(Config::default());
        estimator.start(now);
        std::hint::black_box(&estimator);
    });
    assert_eq!(created.count_total, 0, "an idle estimator has nothing on the heap");
    assert!(size_of::<Estimator>() <= 3 << 10, "{} bytes", size_of::<Estimator>());

    let mut estimator = Estimator::new(Config::default());
    estimator.start(now);
    let mut sequence = 0_u16;
    let mut held = 0;
    for ms in 0..30_000_u64 {
        now = now + STEP;
        let mut arrived = Vec::new();
        link.poll(now, &mut arrived);
        receiver.on_arrivals(arrived.into_iter());
        let feedback = receiver.poll(now);
        let probe = estimator.next_probe(now).map(|probe| probe.id);
        let used = allocation_counter::measure(|| {
            if ms % 9 == 0 {
                estimator.on_sent(now, sequence, 1_200, probe);
            }
            if let Some(Ok(Packet::TransportCc(said))) =
                feedback.as_deref().and_then(|bytes| packets(bytes).next())
            {
                estimator.on_transport_cc(now, &said, &mut scratch);
            }
            estimator.on_tick(now);
        });
        if ms % 9 == 0 {
            link.send(now, sequence, 1_200);
            sequence = sequence.wrapping_add(1);
        }
        held += used.bytes_current;
        assert!(ms < 10_000 || used.count_total == 0, "at {ms} ms");
    }
    assert!(held <= 40 << 10, "{held} bytes");
}

#[test]
fn false_feedback_neither_breaks_nor_lifts_it() {
    let mut random = Random(7);
    for round in 0..40 {
        let mut estimator = Estimator::new(Config { max_bps: 3e6, ..Config::default() });
        let mut scratch = Scratch::default();
        let mut now = Time::from_millis(random.bits() % 100_000);
        estimator.start(now);
        let mut sequence = random.bits() as u16;
        for _ in 0..4_000 {
            now = now + Duration::from_micros(random.bits() % 30_000);
            if random.unit() < 0.001 {
                now = now + Duration::from_secs(random.bits() % 200_000);
            }
            for _ in 0..random.bits() % 4 {
                let probe = estimator.next_probe(now).map(|probe| probe.id);
                let bytes = (random.bits() % 70_000) as usize;
                estimator.on_sent(now, sequence, bytes, probe.or((round % 3 == 0).then_some(9)));
                sequence = sequence.wrapping_add(if random.unit() < 0.01 { 300 } else { 1 });
            }
            on_garbage(&mut estimator, &mut random, now, sequence, &mut scratch);
            assert!((MIN_BPS as u64..=3_000_000).contains(&estimator.target_bps()));
        }
    }
}

fn on_garbage(
    estimator: &mut Estimator,
    random: &mut Random,
    now: Time,
    sequence: u16,
    scratch: &mut Scratch,
) {
    // A chunk of any kind, then deltas of anything.
    let mut body = vec![0; 8];
    let base = if random.unit() < 0.8 {
        sequence.wrapping_sub((random.bits() % 30) as u16)
    } else {
        random.bits() as u16
    };
    body.extend(base.to_be_bytes());
    let count = if random.unit() < 0.99 { random.bits() % 30 } else { random.bits() % 8_000 };
    body.extend((count as u16).to_be_bytes());
    body.extend(random.bits().to_be_bytes()[..4].iter());
    for _ in 0..40 {
        body.extend((random.bits() as u16).to_be_bytes());
    }
    let mut bytes = vec![0x8f, 0xcd, 0, (body.len() / 4) as u8];
    bytes.extend(body);
    if let Some(Ok(Packet::TransportCc(said))) = packets(&bytes).next() {
        estimator.on_transport_cc(now, &said, scratch);
    }
    match random.bits() % 50 {
        0 => estimator.on_rtt(Duration::from_nanos(random.bits())),
        1 => {
            let wanted_bps = random.between(0.0, 1e7);
            estimator.set_demand(now, Demand { wanted_bps, upgrade_bps: None });
        }
        _ => drop(estimator.on_tick(now)),
    }
}
