//! What administrators say in a room is heard by data channel, in everyone's way, by whom it is
//! for.

use std::time::Duration;

use opencall_control::admin::{AdminRequest, AdminResponse, Announcement};
use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::*;

use crate::data_channels_carry_messages::{enter, offer, ready, transport};
use crate::talk::Talk;

fn announce(talk: &mut Talk, to: &[&str], text: &str) -> Result<usize, (u16, String)> {
    let announcement = Announcement {
        label: "announcements".to_owned(),
        to: to.iter().map(|&name| name.to_owned()).collect(),
        is_text: true,
        bytes: text.as_bytes().to_vec(),
    };
    match talk.admin(AdminRequest::Announce { room: "room".to_owned(), announcement }) {
        Ok(AdminResponse::Announced(participants)) => Ok(participants),
        Ok(_) => panic!("an announcement"),
        Err(error) => Err((error.code, error.reason)),
    }
}

/// One who is offered what there is, and one who asks for it; later ones hear what is new.
#[test]
fn everyone_hears_it_in_its_own_way() {
    let mut talk = Talk::new();
    assert_eq!(announce(&mut talk, &[], "early").unwrap_err().0, 404, "nobody is there");
    let anna = enter(&mut talk, "anna", Automatic);
    let (_, mut anna_receives) = transport(&mut talk, anna, Direction::Recv);
    let bert = enter(&mut talk, "bert", OnRequest);
    let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);
    talk.news(anna);

    assert_eq!(announce(&mut talk, &[], "hello"), Ok(2));
    let to_anna = offer(&mut talk, anna);
    assert_eq!((to_anna.peer_id, &*to_anna.label), (None, "announcements"));
    anna_receives.open(to_anna.sctp_stream_parameters.stream_id, false, None);
    talk.ok(anna, ready(&to_anna.id, true));
    anna_receives.run(&mut talk);
    assert_eq!(anna_receives.texts(), ["hello"]);

    let news = talk.news(bert);
    let Some(Notification::NewDataProducer { peer_id: None, data_producer_id, .. }) = news.last()
    else {
        panic!("{news:?}")
    };
    let consume =
        Request::ConsumeData { data_producer_id: data_producer_id.clone(), transport_id: None };
    let Response::ConsumedData(options) = talk.ok(bert, consume) else { panic!("consumed") };
    bert_receives.open(options.sctp_stream_parameters.stream_id, false, None);
    bert_receives.run(&mut talk);
    assert_eq!(bert_receives.texts(), ["hello"], "though it asked later");

    talk.pass(Duration::from_secs(11));
    let carol = enter(&mut talk, "carol", Automatic);
    let (_, mut carol_receives) = transport(&mut talk, carol, Direction::Recv);
    let to_carol = offer(&mut talk, carol);
    carol_receives.open(to_carol.sctp_stream_parameters.stream_id, false, None);
    talk.ok(carol, ready(&to_carol.id, true));
    assert_eq!(announce(&mut talk, &[], "again"), Ok(3));
    for receiver in [&mut anna_receives, &mut bert_receives, &mut carol_receives] {
        receiver.run(&mut talk);
        assert_eq!(receiver.texts(), ["again"], "and nothing old");
    }
    for session in [anna, bert, carol] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn what_is_for_one_is_heard_by_one() {
    let mut talk = Talk::new();
    let mut receivers = Vec::new();
    for name in ["anna", "bert"] {
        let session = enter(&mut talk, name, Automatic);
        receivers.push((session, transport(&mut talk, session, Direction::Recv).1));
    }
    for (session, _) in &receivers {
        talk.news(*session);
    }
    assert_eq!(announce(&mut talk, &["bert"], "psst"), Ok(1));
    let (code, reason) = announce(&mut talk, &["bert", "nobody"], "psst").unwrap_err();
    assert_eq!((code, reason.contains("\"nobody\"")), (404, true), "{reason}");
    assert!(talk.news(receivers[0].0).is_empty(), "not even of the channel");
    assert_eq!(announce(&mut talk, &[], "all"), Ok(2));
    let mut heard = Vec::new();
    for (session, receiver) in &mut receivers {
        let offer = offer(&mut talk, *session);
        receiver.open(offer.sctp_stream_parameters.stream_id, false, None);
        talk.ok(*session, ready(&offer.id, true));
        receiver.run(&mut talk);
        heard.push(receiver.texts());
    }
    assert_eq!(heard, [vec!["all"], vec!["psst", "all"]]);
}

#[test]
fn labels_are_few_and_short() {
    let mut talk = Talk::new();
    enter(&mut talk, "anna", Automatic);
    let mut say = |label: String| {
        let announcement = Announcement { label, to: Vec::new(), is_text: false, bytes: vec![1] };
        let result = talk.admin(AdminRequest::Announce { room: "room".to_owned(), announcement });
        result.map(drop).map_err(|error| error.code)
    };
    for n in 0..8 {
        assert_eq!(say(format!("label {n}")), Ok(()));
    }
    assert_eq!(say("one more".to_owned()), Err(429));
    assert_eq!(say("label 3".to_owned()), Ok(()));
    assert_eq!(say("x".repeat(257)), Err(400));
}
