//! The process is killed, and another begins with what control had told the data cores: all of that
//! goes on, belongs to nobody, and ends with whoever comes back, with whoever falls silent, or at
//! the deadline.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use opencall_control::LEFT_GRACE;
use opencall_control::PlacementPolicy;
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::calls::CallMemory;
use opencall_dataplane::message::{Event, IceState};

use crate::talk::*;

/// A control core over that memory: how many transports it takes up.
fn begin(memory: &OwnedFd) -> (Talk, usize) {
    let mut talk = Talk::with(config(2, PlacementPolicy::Spread));
    let found = CallMemory::open(memory.as_fd(), Duration::ZERO).expect("memory");
    let count = talk.control.take_up(talk.now, found.memory, found.told);
    talk.drain();
    (talk, count)
}

/// A meeting of three over two cores; its process is killed.
fn killed(memory: &OwnedFd) -> Vec<Books> {
    let (mut talk, _) = begin(memory);
    let anna = talk.enter("anna", Automatic);
    let bert = talk.enter("bert", Automatic);
    talk.enter("carl", Automatic);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let producer_id = talk.produce(&bert, Kind::Audio, audio("0"));
    talk.ok(bert.session, Request::CloseProducer { producer_id });
    talk.produce(&bert, Kind::Audio, audio("0"));
    let books = talk.books.clone();
    mem::forget(talk);
    books
}

#[test]
fn the_cores_are_told_what_they_knew() {
    let memory = CallMemory::create().expect("memory");
    let before = killed(&memory);
    let (talk, count) = begin(&memory);
    assert_eq!((count, talk.control.counts().left_transports), (6, 6));
    assert_eq!(talk.books, before);
    // And once more: what was taken up outlives this process, too.
    mem::forget(talk);
    let (mut talk, _) = begin(&memory);
    assert_eq!(talk.books, before);
    talk.pass(LEFT_GRACE);
    talk.assert_nothing_is_left();
    mem::forget(talk);
    assert_eq!(begin(&memory).1, 0);
}

#[test]
fn who_comes_back_has_new_transports_and_the_old_ones_end() {
    let memory = CallMemory::create().expect("memory");
    let before = killed(&memory);
    let (mut talk, _) = begin(&memory);
    let anna = talk.enter("anna", Automatic);
    assert_eq!(talk.control.counts().left_transports, 4);
    talk.produce(&anna, Kind::Video, simulcast("0"));
    let ids = |books: &[Books]| books.iter().flat_map(|of| of.transports.clone()).max();
    assert!(ids(&talk.books) > ids(&before), "no id is given twice");
    // Of one name in another room nothing ends.
    let other = talk.connect_to("other", "bert", Automatic);
    talk.ok(other, join("bert"));
    assert_eq!(talk.control.counts().left_transports, 4);
    for name in ["bert", "carl"] {
        let client = talk.enter(name, Automatic);
        assert_eq!(talk.offers(client.session).len(), 1, "anna's camera");
    }
    assert_eq!(talk.control.counts().left_transports, 0);
    let left: usize = talk.books.iter().map(|books| books.transports.len()).sum();
    assert_eq!(left, 6, "two for each who is there");
    assert_eq!(talk.books.iter().map(|books| books.producers.len()).sum::<usize>(), 2);
    assert_eq!(talk.books.iter().map(|books| books.consumers.len()).sum::<usize>(), 2);
}

#[test]
fn who_falls_silent_ends_and_the_others_go_on_to_the_deadline() {
    let memory = CallMemory::create().expect("memory");
    killed(&memory);
    let (mut talk, _) = begin(&memory);
    let (core, gone) = talk.newest_transport();
    let remote = "192.0.2.9:9".parse().expect("an address");
    let silent = |state| Event::Ice { transport: gone, state, remote };
    talk.event(core, silent(IceState::Connected));
    assert_eq!(talk.control.counts().left_transports, 6);
    talk.event(core, silent(IceState::Disconnected));
    talk.event(core, silent(IceState::Disconnected));
    assert_eq!(talk.control.counts().left_transports, 5);
    talk.pass(LEFT_GRACE - Duration::from_millis(1));
    assert_eq!(talk.control.counts().left_transports, 5);
    talk.pass(Duration::from_millis(1));
    talk.assert_nothing_is_left();
}
