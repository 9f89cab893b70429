//! The sender of a simulcast is told how many of its encodings anyone would take: more at once,
//! less after a while.

use std::time::Duration;

use opencall_control::LOWER_AFTER;
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::{Request, SessionId};
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::{Event, ProducerId};

use crate::talk::{Talk, audio, simulcast};

const MOMENT: Duration = Duration::from_millis(10);

fn told(talk: &mut Talk, session: SessionId) -> Vec<String> {
    let news = talk.news_texts(session).into_iter();
    news.filter_map(|text| text.strip_prefix("ProducerMaxSpatialLayer ").map(str::to_owned))
        .collect()
}

fn want(talk: &mut Talk, core: u8, producer: ProducerId, count: u8) {
    talk.event(core, Event::EncodingsWanted { producer, count });
}

#[test]
fn less_after_a_while_and_more_at_once() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let producer = talk.newest_producer();
    want(&mut talk, 0, producer, 3);
    talk.pass(2 * LOWER_AFTER);
    assert!(told(&mut talk, anna.session).is_empty(), "it sends all three from the start");

    want(&mut talk, 0, producer, 1);
    talk.pass(LOWER_AFTER - MOMENT);
    assert!(told(&mut talk, anna.session).is_empty(), "not yet: they may be wanted again");
    want(&mut talk, 0, producer, 2);
    talk.pass(MOMENT);
    assert_eq!(told(&mut talk, anna.session), ["1"], "what is wanted by then");
    want(&mut talk, 0, producer, 3);
    assert_eq!(told(&mut talk, anna.session), ["2"], "at once");

    want(&mut talk, 0, producer, 1);
    talk.pass(LOWER_AFTER - MOMENT);
    want(&mut talk, 0, producer, 3);
    talk.pass(2 * LOWER_AFTER);
    assert!(told(&mut talk, anna.session).is_empty(), "a change of mind costs nothing");
}

#[test]
fn the_lowest_is_sent_though_nobody_wants_it_yet() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let producer = talk.newest_producer();
    talk.pass(LOWER_AFTER);
    assert_eq!(told(&mut talk, anna.session), ["0"]);
    want(&mut talk, 0, producer, 200);
    assert_eq!(told(&mut talk, anna.session), ["2"], "no more than there are");
}

#[test]
fn the_core_that_wants_most_decides_while_it_gets_the_producer() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let producer = talk.newest_producer();
    want(&mut talk, 0, producer, 1);
    want(&mut talk, 1, producer, 3);
    talk.pass(2 * LOWER_AFTER);
    assert!(told(&mut talk, anna.session).is_empty());
    talk.leave(bert.session);
    want(&mut talk, 1, producer, 3);
    talk.pass(LOWER_AFTER);
    assert_eq!(told(&mut talk, anna.session), ["0"], "the other core has no consumers any more");
}

#[test]
fn of_single_streams_and_closed_producers_nothing_is_said() {
    let mut talk = Talk::new();
    let anna = talk.enter("anna", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    let voice = talk.newest_producer();
    want(&mut talk, 0, voice, 0);
    let producer_id = talk.produce(&anna, Kind::Video, simulcast("1"));
    let camera = talk.newest_producer();
    talk.ok(anna.session, Request::CloseProducer { producer_id });
    want(&mut talk, 0, camera, 2);
    talk.pass(2 * LOWER_AFTER);
    assert!(told(&mut talk, anna.session).is_empty());
}
