//! Who watches from outside is shown whoever has the floor, or one participant: by producers of its
//! own, which stay while those come and go whom they carry.

use std::time::Duration;

use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::*;
use opencall_control::rtp_parameters::Kind;
use opencall_dataplane::message::*;

use crate::talk::*;

/// A room of those who send a voice and a picture, and its data cores, which take whom they are
/// told to.
struct Scene {
    talk: Talk,
    clients: Vec<Client>,
    voices: Vec<ProducerId>,
    cameras: Vec<ProducerId>,
}

impl Scene {
    fn of(names: &[&str]) -> Self {
        let mut scene =
            Scene { talk: Talk::new(), clients: vec![], voices: vec![], cameras: vec![] };
        for name in names {
            scene.enter(name);
        }
        scene
    }

    fn enter(&mut self, name: &str) {
        let talk = &mut self.talk;
        let client = talk.enter(name, Automatic);
        talk.produce(&client, Kind::Audio, audio("0"));
        self.voices.push(newest(talk));
        talk.produce(&client, Kind::Video, simulcast("1"));
        self.cameras.push(newest(talk));
        self.clients.push(client);
    }

    fn view(&mut self, session: SessionId, of: ViewOf, kind: Kind) -> ProducerId {
        let Response::Viewed { .. } = self.talk.ok(session, Request::View { of, kind }) else {
            panic!("no view");
        };
        let views = self.talk.producers.values().filter(|of| of.origin == Origin::Stage);
        views.map(|config| config.id).max().expect("there is one")
    }

    /// Whom a view carries; data cores take it at once.
    fn carried(&mut self, view: ProducerId) -> Option<ProducerId> {
        let home = self.talk.producers[&view].home;
        let source = self.talk.books[usize::from(home.0)].carried.get(&view).copied();
        if let Some(source) = source {
            self.talk.event(home.0, Event::StageTaken { stage: view, source });
        }
        source
    }

    fn speak(&mut self, who: usize) {
        let producer = self.voices[who];
        let core = self.talk.producers[&producer].home.0;
        for block in 0..20 {
            let levels_dbov = [-25, -22, if block % 2 == 0 { -60 } else { -27 }, -24, -26];
            self.talk.event(core, Event::AudioLevel { producer, levels_dbov });
            self.talk.pass(Duration::from_millis(100));
        }
    }
}

fn newest(talk: &Talk) -> ProducerId {
    let of_clients = talk.producers.values().filter(|config| config.origin != Origin::Stage);
    of_clients.map(|config| config.id).max().expect("there is one")
}

fn speaker(rank: u8) -> ViewOf {
    ViewOf::Speaker { rank }
}

fn of(peer_id: &str, source: Source) -> ViewOf {
    ViewOf::Participant { peer_id: peer_id.into(), source }
}

#[test]
fn the_view_of_the_speaker_follows_the_floor_and_outlives_whom_it_shows() {
    let mut scene = Scene::of(&["anna", "bert"]);
    let watcher = scene.talk.connect("whep", OnRequest);
    let picture = scene.view(watcher, speaker(0), Kind::Video);
    let voice = scene.view(watcher, speaker(0), Kind::Audio);
    assert_eq!(scene.carried(picture), Some(scene.cameras[0]), "who came first");
    assert_eq!(scene.carried(voice), Some(scene.voices[0]));
    scene.speak(1);
    assert_eq!(scene.carried(picture), Some(scene.cameras[1]), "bert has the floor");
    assert_eq!(scene.carried(voice), Some(scene.voices[1]));
    // Two views show two people.
    let second = scene.view(watcher, speaker(1), Kind::Video);
    assert_eq!(scene.carried(second), Some(scene.cameras[0]));
    scene.speak(0);
    assert_eq!(scene.carried(picture), Some(scene.cameras[0]));
    assert_eq!(scene.carried(second), Some(scene.cameras[1]), "they change places");
    let anna = scene.clients[0].session;
    scene.talk.leave(anna);
    assert_eq!(scene.carried(picture), Some(scene.cameras[1]), "bert is left");
    assert_eq!((scene.carried(second), scene.carried(voice)), (None, Some(scene.voices[1])));
    let bert = scene.clients[1].session;
    scene.talk.leave(bert);
    assert_eq!((scene.carried(picture), scene.carried(voice)), (None, None));
    scene.enter("carl");
    assert_eq!(scene.carried(picture), Some(scene.cameras[2]), "who comes is shown");
    scene.talk.leave(watcher);
    let carl = scene.clients[2].session;
    scene.talk.leave(carl);
    scene.talk.assert_nothing_is_left();
}

#[test]
fn the_view_of_a_participant_waits_for_it() {
    let mut scene = Scene::of(&["anna", "bert"]);
    let watcher = scene.talk.connect("whep", OnRequest);
    let view = scene.view(watcher, of("bert", Source::Camera), Kind::Video);
    let screen = scene.view(watcher, of("bert", Source::ScreenShare), Kind::Video);
    assert_eq!((scene.carried(view), scene.carried(screen)), (Some(scene.cameras[1]), None));
    scene.speak(0);
    assert_eq!(scene.carried(view), Some(scene.cameras[1]), "whoever speaks");
    let bert = scene.clients[1].session;
    scene.talk.leave(bert);
    assert_eq!(scene.carried(view), None, "nobody else's");
    scene.enter("bert");
    assert_eq!(scene.carried(view), Some(scene.cameras[2]));
    // The next who watches the same shares it.
    let other = scene.talk.connect("whep-2", OnRequest);
    let count = scene.talk.producers.len();
    scene.view(other, of("bert", Source::Camera), Kind::Video);
    assert_eq!(scene.talk.producers.len(), count);
    scene.talk.leave(watcher);
    assert_eq!(scene.carried(view), Some(scene.cameras[2]), "the other still watches");
    scene.talk.leave(other);
    for client in [0, 2] {
        let session = scene.clients[client].session;
        scene.talk.leave(session);
    }
    scene.talk.assert_nothing_is_left();
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let mut talk = Talk::new();
    let watcher = talk.connect("whep", OnRequest);
    let view = |of| Request::View { of, kind: Kind::Video };
    let refused = |talk: &mut Talk, request| talk.refused(watcher, request).0;
    assert_eq!(refused(&mut talk, view(speaker(0))), 404, "nobody is there");
    let anna = talk.enter("anna", Automatic);
    assert_eq!(refused(&mut talk, view(of("bert", Source::Camera))), 404);
    let Response::Viewed { sources: 0, .. } = talk.ok(watcher, view(speaker(0))) else { panic!() };
    // Each view copies a stream: a room has so many.
    for rank in 1..32 {
        talk.ok(watcher, view(speaker(rank)));
    }
    assert_eq!(refused(&mut talk, view(speaker(32))), 429);
    talk.leave(watcher);
    talk.leave(anna.session);
    talk.assert_nothing_is_left();
}
