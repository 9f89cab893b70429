//! Over random histories of a call: every sender report maps a stream's clock to the sender's wall
//! clock within 5 ms, or is withheld; report blocks to the sender count one source each; and no
//! picture is decoded on top of another than the one it refers to.
//!
//! `OPENCALL_HISTORIES=200` tries so many seeds instead of a few, `OPENCALL_HISTORIES=37..38` one
//! of them.

use std::time::Duration;

use opencall_wire::codec::Codec;

use crate::histories::film::{Drawn, L1T1, L1T3, Place};
use crate::histories::{play, seeds};

fn assert_holds(codec: Codec, pattern: &'static [Place], few: u64) {
    let mut wrong = Vec::new();
    let (mut pictures, mut reports, mut blocks) = (0, 0, 0);
    for seed in seeds(few) {
        let outcome = play(seed, Box::new(Drawn(codec, pattern)), Duration::ZERO);
        wrong.extend(outcome.faults.into_iter().map(|fault| format!("seed {seed}: {fault}")));
        for seat in outcome.hearers.iter().flat_map(|hearer| &hearer.seats) {
            pictures += seat.shown.len();
            reports += seat.reports;
        }
        blocks += outcome.blocks;
    }
    println!("{codec:?}: {reports} sender reports, {blocks} report blocks, {pictures} pictures");
    assert!(wrong.is_empty(), "{codec:?}, {} faults:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn over_random_histories_of_vp8() {
    assert_holds(Codec::Vp8, L1T1, 40);
}

#[test]
fn over_random_histories_of_vp9() {
    assert_holds(Codec::Vp9, L1T1, 10);
}

#[test]
fn over_random_histories_of_vp8_in_temporal_layers() {
    assert_holds(Codec::Vp8, L1T3, 20);
}

#[test]
fn over_random_histories_of_vp9_in_temporal_layers() {
    assert_holds(Codec::Vp9, L1T3, 20);
}

#[test]
fn over_random_histories_of_h264() {
    assert_holds(Codec::H264, L1T1, 10);
}

#[test]
fn over_random_histories_of_av1() {
    assert_holds(Codec::Av1, L1T1, 10);
}

/// The canary: a sender that lies by 20 ms is found out.
#[test]
fn a_report_that_is_off_is_noticed() {
    let outcome = play(1, Box::new(Drawn(Codec::Vp8, L1T1)), Duration::from_millis(20));
    assert!(outcome.faults.iter().any(|fault| fault.contains("off")), "{:?}", outcome.faults);
}
