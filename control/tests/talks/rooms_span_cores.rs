//! Participants on different cores: a producer reaches another core once, however many consume it
//! there, and no longer than someone does.

use opencall_control::PlacementPolicy;
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::Request;
use opencall_control::rtp_parameters::Kind;

use crate::talk::{Talk, audio, config, ready, simulcast};

#[test]
fn one_pipe_per_core_while_it_is_needed() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let carl = talk.enter("carl", Automatic);
    let dora = talk.enter("dora", Automatic);
    talk.commands();

    let producer_id = talk.produce(&anna, Kind::Video, simulcast("0"));
    let expected = [
        "0: CreateProducer video",
        "1: CreateProducer video",
        "0: OpenPipe to 1",
        "1: CreateConsumer paused",
        "0: CreateConsumer paused",
        "1: CreateConsumer paused",
    ];
    assert_eq!(talk.commands(), expected);
    assert_eq!(talk.control.counts().pipes, 1);

    let camera = talk.offers(bert.session).remove(0);
    talk.ok(bert.session, ready(&camera.id, true));
    assert_eq!(talk.commands(), ["1: ResumeConsumer", "1: RequestKeyFrame"]);
    talk.ok(anna.session, Request::PauseProducer { producer_id });
    assert_eq!(talk.commands(), ["1: PauseProducer", "0: PauseProducer"]);

    talk.leave(bert.session);
    assert!(!talk.commands().iter().any(|text| text.contains("Pipe")), "dora still receives");
    talk.leave(dora.session);
    let commands = talk.commands();
    let position = |text: &str| commands.iter().position(|command| command == text);
    assert!(position("0: ClosePipe to 1") < position("1: CloseProducer"));
    assert!(position("0: ClosePipe to 1").is_some());
    assert_eq!(talk.control.counts().pipes, 0);
    talk.leave(anna.session);
    talk.leave(carl.session);
    talk.assert_nothing_is_left();
}

#[test]
fn a_closed_producer_is_closed_on_every_core() {
    let mut talk = Talk::on_two_cores();
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    let producer_id = talk.produce(&anna, Kind::Audio, audio("0"));
    talk.commands();
    talk.ok(anna.session, Request::CloseProducer { producer_id });
    let expected =
        ["1: CloseConsumer", "0: ClosePipe to 1", "1: CloseProducer", "0: CloseProducer"];
    assert_eq!(talk.commands(), expected);
    assert_eq!(talk.news_texts(bert.session), ["NewConsumer anna Audio", "ConsumerClosed"]);
}

#[test]
fn a_small_room_stays_on_one_core() {
    let policy = PlacementPolicy::Pack { participants_per_core: 2 };
    let mut talk = Talk::with(config(2, policy));
    let peers = ["anna", "bert", "carl"].map(|name| talk.enter(name, Automatic));
    let ports = peers.each_ref().map(|peer| peer.send.ice_candidates[0].port);
    assert_eq!(ports, [40_000, 40_000, 40_001]);
    talk.leave(peers[0].session);
    let dora = talk.enter("dora", Automatic);
    assert_eq!(dora.send.ice_candidates[0].port, 40_000, "the place that became free");
}
