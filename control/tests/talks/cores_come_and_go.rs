//! Data cores that come and go: newcomers are placed on those that take them, those who are on one
//! that drains stay, and it may go when nothing of them is left.

use opencall_control::PlacementPolicy;
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::CoreId;

use crate::talk::*;

const FIRST: CoreId = CoreId(0);
const SECOND: CoreId = CoreId(1);

/// One core that is there, and books for a second.
fn on_one_of_two() -> Talk {
    let mut talk = Talk::with(config(1, PlacementPolicy::default()));
    talk.books.push(Books::default());
    talk
}

#[test]
fn a_core_that_came_takes_new_rooms_and_one_that_drains_takes_none() {
    let mut talk = on_one_of_two();
    let anna = talk.enter("anna", Automatic);
    talk.control.add_core(SECOND, addresses(1));
    talk.control.add_core(SECOND, addresses(7));
    let bert = talk.connect_to("other", "bert", Automatic);
    let options = talk.transport(bert, Direction::Send);
    assert_eq!((talk.newest_transport().0, options.ice_candidates[0].port), (1, 40_001));

    talk.control.drain_core(FIRST).expect("there is another");
    assert!(!talk.control.is_core_open(FIRST) && talk.control.is_core_open(SECOND));
    let carl = talk.enter("carl", Automatic);
    assert_eq!(talk.newest_transport().0, 1, "also who comes to a room that is there");
    let producer = talk.produce(&anna, Kind::Audio, audio("0"));
    assert_eq!(talk.control.counts().pipes, 1, "who is there goes on");
    assert!(!talk.control.is_core_empty(FIRST));

    // Who has a transport there has its others there; who has none goes elsewhere.
    talk.transport(anna.session, Direction::Recv);
    assert_eq!(talk.newest_transport().0, 0);
    talk.ok(anna.session, Request::CloseProducer { producer_id: producer });
    talk.leave(anna.session);
    assert!(talk.control.is_core_empty(FIRST));
    let dora = talk.connect("dora", Automatic);
    talk.remove_core(0);
    talk.transport(dora, Direction::Send);
    assert_eq!(talk.newest_transport().0, 1);
    for session in [bert, carl.session, dora] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn the_last_core_that_takes_newcomers_is_kept() {
    let mut talk = on_one_of_two();
    let refused = |talk: &mut Talk, core| talk.control.drain_core(core).map_err(|error| error.code);
    assert_eq!(refused(&mut talk, FIRST), Err(409));
    assert_eq!(refused(&mut talk, SECOND), Err(404));
    talk.control.add_core(SECOND, addresses(1));
    assert_eq!(refused(&mut talk, FIRST), Ok(()));
    assert_eq!(refused(&mut talk, FIRST), Ok(()), "it drains already");
    assert_eq!(refused(&mut talk, SECOND), Err(409), "then nobody could come in");
    talk.control.keep_core(FIRST).expect("it is there");
    assert_eq!(refused(&mut talk, SECOND), Ok(()));
    assert!(talk.control.keep_core(CoreId(9)).is_err());
    let words = talk.control.drain_core(FIRST).unwrap_err().reason;
    assert!(words.contains("POST /v1/workers"), "{words}");
}

#[test]
fn at_the_deadline_those_who_are_left_are_closed_and_come_back_elsewhere() {
    let mut talk = on_one_of_two();
    let anna = talk.enter("anna", Automatic);
    talk.control.add_core(SECOND, addresses(1));
    talk.control.drain_core(FIRST).expect("there is another");
    let bert = talk.enter("bert", Automatic);
    talk.produce(&anna, Kind::Audio, audio("0"));
    talk.produce(&bert, Kind::Audio, audio("0"));
    talk.news(bert.session);
    assert_eq!(talk.cut_core(0), 1);
    assert_eq!(talk.closed.get(&anna.session), Some(&CloseReason::CoreRemoved));
    assert!(!talk.closed.contains_key(&bert.session), "who is elsewhere stays");
    assert!(talk.control.is_core_empty(FIRST));
    assert_eq!(talk.cut_core(0), 0);
    talk.remove_core(0);
    let anna = talk.enter("anna", Automatic);
    assert_eq!(talk.newest_transport().0, 1);
    // A core under the same number knows nothing of the one before.
    talk.control.add_core(FIRST, addresses(0));
    let other = talk.connect_to("other", "carl", Automatic);
    talk.transport(other, Direction::Send);
    assert_eq!(talk.newest_transport().0, 0);
    for session in [anna.session, bert.session, other] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}
