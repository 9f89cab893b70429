//! A room of many has a stage: everyone gets the same few producers, and control decides whom they
//! carry.

use std::time::Duration;

use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_control::{PlacementPolicy, StageConfig};
use opencall_dataplane::message::*;
use serde_json::json;

use crate::talk::*;

/// A talk whose rooms have a stage of two voices and two pictures from three senders on, and three
/// who send on two cores.
struct Scene {
    talk: Talk,
    clients: Vec<Client>,
    voices: Vec<ProducerId>,
    cameras: Vec<ProducerId>,
    /// What clients call both.
    names: Vec<[String; 2]>,
}

const NAMES: [&str; 6] = ["anna", "bert", "carl", "dora", "emil", "fay"];

impl Scene {
    fn of(count: usize) -> Self {
        let mut config = config(2, PlacementPolicy::Spread);
        config.stage = StageConfig { from: 3, voices: 2, videos: 2 };
        let (clients, voices, cameras) = (Vec::new(), Vec::new(), Vec::new());
        let (talk, names) = (Talk::with(config), Vec::new());
        let mut scene = Scene { talk, clients, voices, cameras, names };
        for _ in 0..count {
            scene.enter();
        }
        scene
    }

    /// One more enters, who sends a voice and a picture.
    fn enter(&mut self) {
        let talk = &mut self.talk;
        let client = talk.enter(NAMES[self.clients.len()], Automatic);
        let voice = talk.produce(&client, Kind::Audio, audio("0"));
        self.voices.push(newest_of_client(talk));
        let camera = talk.produce(&client, Kind::Video, simulcast("1"));
        self.cameras.push(newest_of_client(talk));
        self.names.push([voice, camera]);
        self.clients.push(client);
    }

    /// Fay enters, who sends nothing and asks for what she receives.
    fn watch(&mut self) -> SessionId {
        let session = self.talk.connect("fay", OnRequest);
        self.talk.transport(session, Direction::Recv);
        let request = Request::SetRtpCapabilities {
            rtp_capabilities: capabilities(),
            display_name: None,
            codec_hints: None,
        };
        self.talk.ok(session, request);
        session
    }

    /// Data cores put on stage whatever they are told to.
    fn settle(&mut self) {
        for core in 0..self.talk.books.len() {
            let carried = self.talk.books[core].carried.clone();
            for (stage, source) in carried {
                self.talk.event(core as u8, Event::StageTaken { stage, source });
            }
        }
    }

    /// Somebody speaks for so long.
    fn speak(&mut self, who: usize, ms: u64) {
        let producer = self.voices[who];
        let core = self.talk.producers[&producer].home.0;
        for block in 0..ms / 100 {
            let levels_dbov = [-25, -22, if block % 2 == 0 { -60 } else { -27 }, -24, -26];
            self.talk.event(core, Event::AudioLevel { producer, levels_dbov });
            self.talk.pass(Duration::from_millis(100));
        }
    }

    /// Who is on stage, by what a client was told last.
    fn told(&mut self, who: usize) -> Vec<String> {
        let news = self.talk.news_texts(self.clients[who].session);
        news.into_iter().filter(|text| text.starts_with("Stage ")).collect()
    }
}

/// The newest producer that a client sends.
fn newest_of_client(talk: &Talk) -> ProducerId {
    let of_clients = talk.producers.values().filter(|config| config.origin != Origin::Stage);
    of_clients.map(|config| config.id).max().expect("there is one")
}

#[test]
fn from_so_many_on_everyone_gets_the_stage_instead_of_everyone() {
    let mut scene = Scene::of(2);
    let anna = scene.clients[0].session;
    let offers = scene.talk.offers(anna);
    assert!(offers.iter().all(|offer| &*offer.peer_id == "bert"), "two are few");
    scene.enter();
    scene.settle();
    let news = scene.talk.news_texts(anna);
    assert_eq!(news.iter().filter(|text| *text == "ConsumerClosed").count(), 2, "{news:?}");
    assert!(news.contains(&"NewPeer stage:1".to_owned()), "{news:?}");
    let offered = news.iter().filter(|text| text.starts_with("NewConsumer stage:")).count();
    assert_eq!(offered, 4, "two voices, two pictures: {news:?}");
    assert!(!news.iter().any(|text| text.starts_with("NewConsumer carl")), "{news:?}");
    // Whoever comes later is offered the stage alone, and told who is on it.
    scene.enter();
    let news = scene.talk.news_texts(scene.clients[3].session);
    let offers = news.iter().filter(|text| text.starts_with("NewConsumer"));
    assert!(offers.clone().all(|text| text.contains("stage:")) && offers.count() == 4);
    assert!(news.iter().any(|text| text.starts_with("Stage a0=- a1=- v0=")), "{news:?}");
    for client in scene.clients {
        scene.talk.leave(client.session);
    }
    scene.talk.assert_nothing_is_left();
}

#[test]
fn a_room_that_shrinks_is_as_it_was() {
    let mut scene = Scene::of(3);
    scene.settle();
    scene.talk.leave(scene.clients[2].session);
    let anna = scene.clients[0].session;
    scene.talk.news(anna);
    scene.talk.leave(scene.clients[1].session);
    let news = scene.talk.news_texts(anna);
    assert!(news.contains(&"PeerClosed stage:1".to_owned()), "{news:?}");
    scene.clients.truncate(1);
    scene.enter();
    let offers = scene.talk.offers(anna);
    assert_eq!(offers.len(), 2);
    assert!(offers.iter().all(|offer| &*offer.peer_id == "bert"));
}

#[test]
fn voices_take_their_place_at_once_and_nobody_gets_its_own() {
    let mut scene = Scene::of(4);
    scene.settle();
    for who in 0..4 {
        let offers = scene.talk.offers(scene.clients[who].session);
        for offer in offers.iter().filter(|offer| offer.peer_id.starts_with("stage:")) {
            scene.talk.ok(scene.clients[who].session, ready(&offer.id, true));
        }
    }
    scene.talk.commands();
    scene.speak(2, 100);
    scene.settle();
    assert_eq!(scene.told(0).last().map(String::as_str), Some("Stage a0=carl"));
    let paused = |scene: &Scene| {
        let books = scene.talk.books.iter().flat_map(|books| &books.consumers);
        let owners: Vec<_> = books
            .filter(|(_, (_, paused))| *paused)
            .map(|(id, _)| scene.talk.consumers[id].transport)
            .collect();
        owners.len()
    };
    // Two cameras are on stage from the start, and Carl's voice now.
    assert_eq!(paused(&scene), 3, "each of them is not sent its own");
    scene.speak(3, 100);
    scene.settle();
    assert_eq!(scene.told(0).last().map(String::as_str), Some("Stage a1=dora"));
    // A third takes the place of who has been silent for longer.
    scene.talk.pass(Duration::from_secs(3));
    scene.speak(3, 100);
    scene.settle();
    scene.speak(0, 100);
    scene.settle();
    assert_eq!(scene.told(1).last().map(String::as_str), Some("Stage a0=anna"));
    assert_eq!(paused(&scene), 4);
}

#[test]
fn pictures_follow_the_floor_and_screens_come_first() {
    let mut scene = Scene::of(4);
    scene.settle();
    scene.told(0);
    scene.speak(3, 600);
    assert!(scene.told(0).iter().all(|text| !text.contains("v0=") && !text.contains("v1=")));
    scene.settle();
    let told = scene.told(0);
    assert!(told.iter().any(|text| text.ends_with("=dora")), "once a key frame is there: {told:?}");
    let dora = scene.cameras[3];
    let is_carried = |scene: &Scene, id| {
        scene.talk.books.iter().any(|books| books.carried.values().any(|source| *source == id))
    };
    // A screen takes a place, and the speaker stays.
    let anna = &scene.clients[0];
    let mut request = produce(&anna.send.id, Kind::Video, simulcast("2"));
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"source": "screen"}));
    }
    scene.talk.ok(anna.session, request);
    let screen = newest_of_client(&scene.talk);
    assert!(is_carried(&scene, screen) && is_carried(&scene, dora));
    // It closes: its place goes to somebody else.
    scene.settle();
    let screen_id = scene.told(1);
    assert!(screen_id.iter().any(|text| text.ends_with("=anna")), "{screen_id:?}");
    scene.talk.leave(scene.clients[0].session);
    assert!(!is_carried(&scene, screen) && is_carried(&scene, dora));
}

#[test]
fn whose_key_frame_does_not_come_is_given_up() {
    let mut scene = Scene::of(4);
    scene.settle();
    let before = scene.talk.books.clone();
    scene.speak(3, 600);
    let dora = scene.cameras[3];
    let core = scene.talk.books.iter().position(|books| books.carried.values().any(|s| *s == dora));
    let core = core.expect("on its way");
    let (&stage, _) = scene.talk.books[core].carried.iter().find(|(_, s)| **s == dora).unwrap();
    // A core that has taken the place of another says who was there: that is no answer.
    let source = before[core].carried[&stage];
    scene.talk.event(core as u8, Event::StageTaken { stage, source });
    assert_eq!(scene.talk.books[core].carried[&stage], dora, "it is still to come");
    scene.talk.event(core as u8, Event::StageRefused { stage, source: dora });
    let told = scene.told(0);
    assert!(!told.iter().any(|text| text.contains("v") && text.ends_with("=dora")), "{told:?}");
}

#[test]
fn a_screen_that_sends_nothing_is_not_tried_again_at_once() {
    let mut scene = Scene::of(4);
    scene.settle();
    let dora = scene.clients[3].session;
    let mut request = produce(&scene.clients[3].send.id, Kind::Video, simulcast("2"));
    if let Request::Produce { app_data, .. } = &mut request {
        *app_data = json_object(json!({"source": "screen"}));
    }
    scene.talk.ok(dora, request);
    let screen = newest_of_client(&scene.talk);
    let slot = |scene: &Scene| {
        let books = scene.talk.books.iter().enumerate();
        let mut all =
            books.flat_map(|(core, books)| books.carried.iter().map(move |of| (core, of)));
        all.find(|(_, (_, source))| **source == screen).map(|(core, (stage, _))| (core, *stage))
    };
    let (core, stage) = slot(&scene).expect("screens come first");
    scene.talk.event(core as u8, Event::StageRefused { stage, source: screen });
    assert_eq!(slot(&scene), None, "there are cameras");
    scene.talk.pass(Duration::from_secs(9));
    assert_eq!(slot(&scene), None);
    // The next time that anything changes after that it may show what it has.
    scene.talk.pass(Duration::from_secs(2));
    scene.settle();
    scene.speak(2, 600);
    assert!(slot(&scene).is_some());
}

#[test]
fn a_room_of_which_few_send_any_more_is_as_it_was() {
    let mut scene = Scene::of(3);
    scene.settle();
    let anna = scene.clients[0].session;
    for who in [1, 2] {
        let session = scene.clients[who].session;
        for producer_id in scene.names[who].clone() {
            scene.talk.ok(session, Request::CloseProducer { producer_id });
        }
    }
    let news = scene.talk.news_texts(anna);
    assert!(news.contains(&"PeerClosed stage:1".to_owned()), "{news:?}");
}

#[test]
fn what_is_wanted_of_the_stage_is_wanted_of_who_is_on_it() {
    let mut scene = Scene::of(4);
    scene.settle();
    let on_stage = scene.talk.books.iter().flat_map(|books| books.carried.clone());
    let (stage, source) = on_stage.into_iter().next().expect("a picture");
    let who = scene.cameras.iter().position(|camera| *camera == source).unwrap();
    let home = scene.talk.producers[&stage].home.0;
    scene.talk.pass(Duration::from_secs(4));
    let news = scene.talk.news_texts(scene.clients[who].session);
    assert!(news.contains(&"ProducerMaxSpatialLayer 0".to_owned()), "nobody wants more: {news:?}");
    scene.talk.event(home, Event::EncodingsWanted { producer: stage, count: 4 });
    let news = scene.talk.news_texts(scene.clients[who].session);
    assert!(news.contains(&"ProducerMaxSpatialLayer 2".to_owned()), "at once: {news:?}");
}

#[test]
fn anyone_can_be_asked_for_by_a_page_of_the_room() {
    let mut scene = Scene::of(5);
    scene.settle();
    let session = scene.watch();
    let news = scene.talk.news_texts(session);
    let offered = news.iter().filter(|text| text.starts_with("NewProducer stage:")).count();
    assert_eq!(offered, 4, "{news:?}");
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let request = Request::Participants { after, limit: 2, only: None };
        let Response::Participants { participants, next, count } = scene.talk.ok(session, request)
        else {
            panic!("a page was asked for")
        };
        assert_eq!(count, 6);
        seen.extend(participants);
        match next {
            Some(next) => after = Some(next.to_string()),
            None => break,
        }
    }
    let names: Vec<&str> = seen.iter().map(|sender| &*sender.peer.id).collect();
    assert_eq!(names, NAMES[..5]);
    let producer_id = &seen[2].producers[1].producer_id;
    let Response::Consumed(options) = scene.talk.ok(session, consume(producer_id)) else {
        panic!("a consumer was asked for")
    };
    assert_eq!((&*options.peer_id, options.kind), ("carl", Kind::Video));
    scene.talk.ok(session, Request::CloseConsumer { consumer_id: options.id });
}

#[test]
fn what_was_received_beside_a_stage_is_offered_when_it_ends() {
    let mut scene = Scene::of(3);
    scene.settle();
    let session = scene.watch();
    let only = Some(vec!["anna".to_owned()]);
    let request = Request::Participants { after: None, limit: 1, only };
    let Response::Participants { participants, .. } = scene.talk.ok(session, request) else {
        panic!("a page was asked for")
    };
    let camera = &participants[0].producers[1].producer_id;
    let Response::Consumed(options) = scene.talk.ok(session, consume(camera)) else {
        panic!("a consumer was asked for")
    };
    scene.talk.news(session);
    for client in [1, 2] {
        scene.talk.leave(scene.clients[client].session);
    }
    // It gives up what it received before it hears that the stage has ended.
    scene.talk.ok(session, Request::CloseConsumer { consumer_id: options.id });
    let news = scene.talk.news_texts(session);
    let offered = news.iter().filter(|text| text.starts_with("NewProducer anna ")).count();
    assert_eq!(offered, 2, "a voice and a picture: {news:?}");
}

#[test]
fn those_who_are_shown_can_be_asked_for_by_name() {
    let mut scene = Scene::of(4);
    let anna = scene.clients[0].session;
    let only = |names: &[&str]| Request::Participants {
        after: None,
        limit: 100,
        only: Some(names.iter().map(|name| (*name).to_owned()).collect()),
    };
    let Response::Participants { participants, next, count } =
        scene.talk.ok(anna, only(&["carl", "anna", "nobody", "bert"]))
    else {
        panic!("participants were asked for")
    };
    let names: Vec<&str> = participants.iter().map(|sender| &*sender.peer.id).collect();
    assert_eq!((names, next, count), (vec!["carl", "bert"], None, 4), "not oneself, not nobody");
    assert_eq!(participants[0].producers.len(), 2);
    assert_eq!(scene.talk.refused(anna, only(&["bert"; 101])).0, 429);
}

#[test]
fn what_is_encrypted_end_to_end_is_offered_to_everyone_and_on_no_stage() {
    let mut scene = Scene::of(2);
    let sealed = |talk: &mut Talk, client: &Client, kind, parameters| {
        let mut request = produce(&client.send.id, kind, parameters);
        if let Request::Produce { app_data, .. } = &mut request {
            *app_data = json_object(json!({"e2ee": {"salt": "x"}}));
        }
        talk.ok(client.session, request);
        newest_of_client(talk)
    };
    let zoe = scene.talk.enter("zoe", Automatic);
    let picture = sealed(&mut scene.talk, &zoe, Kind::Video, simulcast("1"));
    let voice = sealed(&mut scene.talk, &zoe, Kind::Audio, audio("0"));
    let anna = scene.clients[0].session;
    let offers = scene.talk.offers(anna);
    assert_eq!(offers.iter().filter(|offer| &*offer.peer_id == "zoe").count(), 2);
    assert!(
        !offers.iter().any(|offer| offer.peer_id.starts_with("stage:")),
        "two send in the clear"
    );
    // A third who does not encrypt: the stage begins, and what is encrypted stays as it was.
    scene.enter();
    scene.settle();
    let news = scene.talk.news_texts(anna);
    assert_eq!(news.iter().filter(|text| *text == "ConsumerClosed").count(), 2, "Bert's: {news:?}");
    let carried = |scene: &Scene, id| {
        scene.talk.books.iter().any(|books| books.carried.values().any(|source| *source == id))
    };
    assert!(!carried(&scene, picture));
    let core = scene.talk.producers[&voice].home.0;
    scene.talk.event(core, Event::AudioLevel { producer: voice, levels_dbov: [-20; 5] });
    assert!(!carried(&scene, voice));
    // Who comes later gets both.
    let fay = scene.talk.enter("fay", Automatic);
    let offers = scene.talk.offers(fay.session);
    assert_eq!(offers.iter().filter(|offer| &*offer.peer_id == "zoe").count(), 2);
    assert_eq!(offers.len(), 6);
}

#[test]
fn nobody_can_be_called_like_a_slot() {
    let mut talk = Talk::new();
    for name in ["stage:1", "stage:", "stage:007"] {
        let session = talk.connect(name, OnRequest);
        assert!(talk.closed.contains_key(&session), "{name}");
    }
    for name in ["stage", "stage:x", "backstage:1"] {
        let session = talk.connect(name, OnRequest);
        assert!(!talk.closed.contains_key(&session), "{name}");
    }
}

#[test]
fn a_core_that_is_replaced_goes_on_with_the_stage() {
    let mut scene = Scene::of(4);
    scene.settle();
    scene.speak(2, 100);
    for core in 0..2 {
        scene.talk.replace(core);
    }
}

#[test]
fn a_stage_whose_core_is_gone_goes_on_elsewhere_for_the_same_consumers() {
    let mut scene = Scene::of(4);
    scene.speak(1, 100);
    scene.settle();
    let homes = |scene: &Scene| -> Vec<u8> {
        let stage = scene.talk.producers.values().filter(|of| of.origin == Origin::Stage);
        stage.map(|of| of.home.0).collect()
    };
    let (first, second) = (CoreId(0), CoreId(1));
    assert!(homes(&scene).contains(&0) && homes(&scene).contains(&1), "{:?}", homes(&scene));
    scene.talk.control.drain_core(first).expect("there is another");
    for who in [0, 2] {
        scene.talk.leave(scene.clients[who].session);
    }
    scene.settle();
    assert!(scene.talk.control.is_core_empty(first) && homes(&scene).contains(&0));
    let [bert, dora] = [1, 3].map(|who| scene.clients[who].session);
    scene.talk.news(bert);
    let mut carried = scene.talk.books[0].carried.clone();
    carried.extend(scene.talk.books[1].carried.clone());
    let consumers = scene.talk.books[1].consumers.clone();
    scene.talk.commands();

    scene.talk.remove_core(0);
    assert_eq!(homes(&scene), [1; 4]);
    let commands = scene.talk.commands();
    assert!(commands.contains(&"1: MoveStage to 1".to_owned()), "{commands:?}");
    assert_eq!(scene.talk.books[1].carried, carried, "whom it carries");
    assert_eq!(scene.talk.books[1].consumers, consumers, "and for whom");
    scene.settle();
    let news = scene.talk.news_texts(bert);
    assert!(!news.iter().any(|text| text.contains("Closed")), "nobody hears of it: {news:?}");
    // It can move on, and back.
    scene.talk.control.add_core(first, addresses(0));
    scene.talk.books[0] = Books::default();
    let emil = scene.talk.enter("emil", Automatic);
    assert_eq!(scene.talk.newest_transport().0, 0);
    assert!(scene.talk.offers(emil.session).len() >= 4, "the stage reaches it");
    scene.talk.control.drain_core(second).expect("there is another");
    assert_eq!(scene.talk.cut_core(1), 2);
    scene.talk.remove_core(1);
    assert_eq!(scene.talk.closed.get(&dora), Some(&CloseReason::CoreRemoved));
    scene.talk.leave(emil.session);
    scene.talk.assert_nothing_is_left();
}
