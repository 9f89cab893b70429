//! What tests of the control core share: clients that speak typed requests, and data cores that
//! only keep books. The books are strict: a command that no real core could obey is a failure, and
//! at the end everything that was made must have been closed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use opencall_control::admin::{AdminRequest, AdminResponse, RoomSummary};
use opencall_control::api::*;
use opencall_control::dtls::{DtlsConfig, DtlsContext, DtlsEndpoint, DtlsOutput, PeerFingerprints};
use opencall_control::push::message::PushEvent;
use opencall_control::rtp_parameters::{Kind, RtpCapabilities, RtpParameters};
use opencall_control::tap::message::TapEvent;
use opencall_control::{Control, ControlConfig, CoreAddresses, PlacementPolicy, ortc};
use opencall_dataplane::message::*;
use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::KeyingMaterial;
use opencall_wire::time::Time;
use serde_json::{Value, json};

/// What one data core would hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    pub transports: BTreeSet<TransportId>,
    pub producers: BTreeSet<ProducerId>,
    pub consumers: HashMap<ConsumerId, (ProducerId, bool)>,
    pub pipes: BTreeSet<(ProducerId, CoreId)>,
    /// Whom producers of the stage carry, or will.
    pub carried: HashMap<ProducerId, ProducerId>,
}

impl Books {
    fn is_empty(&self) -> bool {
        self.transports.is_empty()
            && self.producers.is_empty()
            && self.consumers.is_empty()
            && self.pipes.is_empty()
            && self.carried.is_empty()
    }
}

/// A control core, its data cores and its clients.
pub struct Talk {
    pub control: Control,
    pub now: Time,
    pub origin: Instant,
    pub books: Vec<Books>,
    /// Commands since they were last looked at, as short texts.
    pub commands: Vec<String>,
    pub producers: HashMap<ProducerId, ProducerConfig>,
    pub consumers: HashMap<ConsumerId, ConsumerConfig>,
    pub keys: HashMap<TransportId, KeyingMaterial>,
    /// Where pipelines are, and their keys.
    pub links: HashMap<TransportId, PlainLink>,
    pub datagrams: HashMap<TransportId, VecDeque<Vec<u8>>>,
    pub queries: Vec<(CoreId, u64, StatsQuery)>,
    answers: HashMap<(SessionId, Token), Result<Response, RequestError>>,
    news: HashMap<SessionId, Vec<Notification>>,
    pub closed: HashMap<SessionId, CloseReason>,
    /// The hosts who closed them.
    pub closed_by: HashMap<SessionId, String>,
    /// Sessions that were let in.
    pub opened: BTreeSet<SessionId>,
    /// Sessions whose client was to show that it is there.
    pub challenged: Vec<SessionId>,
    administered: HashMap<Token, Result<AdminResponse, RequestError>>,
    next_token: u64,
    /// A core was replaced, and is told again what its books said.
    replacing: bool,
}

/// The books of a core; those of the sink, or of what taps or broadcasts, are the last.
fn books_of(books: &mut [Books], core: CoreId) -> &mut Books {
    let index = match core {
        SINK | TAPS | PUSHES => books.len() - 1,
        CoreId(index) => index.into(),
    };
    books.get_mut(index).expect("such a core")
}

/// Where a core is reached.
pub fn addresses(index: usize) -> CoreAddresses {
    CoreAddresses {
        announced: vec![
            SocketAddr::from(([192, 0, 2, 1], 40_000 + index as u16)),
            SocketAddr::new("2001:db8::1".parse().expect("address"), 40_000 + index as u16),
        ],
    }
}

pub fn config(cores: usize, placement: PlacementPolicy) -> ControlConfig {
    ControlConfig {
        placement,
        seed: Some(1),
        unix_origin_ms: 1_700_000_000_000,
        ..ControlConfig::new((0..cores).map(addresses).collect())
    }
}

impl Talk {
    /// With one core.
    pub fn new() -> Self {
        Self::with(config(1, PlacementPolicy::default()))
    }

    /// With two cores that take participants in turns.
    pub fn on_two_cores() -> Self {
        Self::with(config(2, PlacementPolicy::Spread))
    }

    pub fn with(config: ControlConfig) -> Self {
        let origin = Instant::now();
        let cores = config.cores.len()
            + usize::from(config.recordings.or(config.taps).or(config.pushes).is_some());
        let books = (0..cores).map(|_| Books::default()).collect();
        Talk {
            control: Control::new(config, origin).expect("a good configuration"),
            now: Time::from_millis(1_000),
            origin,
            books,
            commands: Vec::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            keys: HashMap::new(),
            links: HashMap::new(),
            datagrams: HashMap::new(),
            queries: Vec::new(),
            answers: HashMap::new(),
            news: HashMap::new(),
            closed: HashMap::new(),
            closed_by: HashMap::new(),
            opened: BTreeSet::new(),
            challenged: Vec::new(),
            administered: HashMap::new(),
            next_token: 0,
            replacing: false,
        }
    }

    /// A connection to room "room".
    pub fn connect(&mut self, peer: &str, mode: ConsumeMode) -> SessionId {
        self.connect_to("room", peer, mode)
    }

    pub fn connect_to(&mut self, room: &str, peer: &str, mode: ConsumeMode) -> SessionId {
        self.connect_with(room, peer, mode, Grants::default())
    }

    pub fn connect_with(
        &mut self,
        room: &str,
        peer: &str,
        mode: ConsumeMode,
        grants: Grants,
    ) -> SessionId {
        let config = SessionConfig {
            room: room.to_owned(),
            peer: peer.to_owned(),
            consume_mode: mode,
            grants,
            display_name: None,
            can_wait: true,
        };
        let session = self.control.open_session(self.now, config);
        self.drain();
        session
    }

    pub fn leave(&mut self, session: SessionId) {
        self.control.close_session(self.now, session);
        self.drain();
    }

    /// A challenged client shows that it is there.
    pub fn answer_challenge(&mut self, session: SessionId) {
        self.control.challenge_answered(self.now, session);
        self.drain();
    }

    /// The server stops.
    pub fn stop(&mut self) {
        self.control.shutdown(self.now);
        self.drain();
    }

    /// Sends a request; the answer, if there is one yet.
    pub fn send(&mut self, session: SessionId, request: Request) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.control.handle_request(self.now, session, token, request);
        self.drain();
        token
    }

    pub fn answer(
        &mut self,
        session: SessionId,
        token: Token,
    ) -> Option<Result<Response, RequestError>> {
        self.answers.remove(&(session, token))
    }

    pub fn ask(&mut self, session: SessionId, request: Request) -> Result<Response, RequestError> {
        let token = self.send(session, request);
        self.answer(session, token).expect("answered at once")
    }

    /// A request that must succeed.
    pub fn ok(&mut self, session: SessionId, request: Request) -> Response {
        self.ask(session, request).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A request that must fail; code and text.
    pub fn refused(&mut self, session: SessionId, request: Request) -> (u16, String) {
        match self.ask(session, request) {
            Ok(_) => panic!("it should have been refused"),
            Err(error) => (error.code, error.reason),
        }
    }

    /// An administrator asks; the answer comes by [`Talk::administered`].
    pub fn administer(&mut self, request: AdminRequest) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        self.control.administer(self.now, token, request);
        self.drain();
        token
    }

    pub fn administered(&mut self, token: Token) -> Option<Result<AdminResponse, RequestError>> {
        self.administered.remove(&token)
    }

    /// The same, where control answers at once.
    pub fn admin(&mut self, request: AdminRequest) -> Result<AdminResponse, RequestError> {
        let token = self.administer(request);
        self.administered(token).expect("answered at once")
    }

    /// All rooms, as administrators see them.
    pub fn rooms(&mut self) -> Vec<RoomSummary> {
        match self.admin(AdminRequest::Rooms { after: None, limit: usize::MAX }) {
            Ok(AdminResponse::Rooms { rooms, .. }) => rooms,
            _ => panic!("rooms were asked for"),
        }
    }

    pub fn event(&mut self, core: u8, event: Event) {
        self.control.handle_event(self.now, CoreId(core), event);
        self.drain();
    }

    /// The thread that broadcasts says something.
    pub fn push_event(&mut self, event: PushEvent) {
        self.control.handle_push_event(self.now, event);
        self.drain();
    }

    /// The thread that taps says something.
    pub fn tap_event(&mut self, event: TapEvent) {
        self.control.handle_tap_event(self.now, event);
        self.drain();
    }

    /// A data core dies, and a new one is told what its books said.
    pub fn replace(&mut self, core: u8) {
        let index = usize::from(core);
        let before = self.books.clone();
        self.books[index] = Books::default();
        self.replacing = true;
        self.control.core_replaced(self.now, CoreId(core));
        self.drain();
        self.replacing = false;
        assert_eq!(self.books, before, "the new core knows what the old one did");
        let recorded = self.control.recorded(CoreId(core));
        let books = &self.books[index];
        let counts = (books.transports.len(), books.producers.len(), books.consumers.len());
        assert_eq!((recorded.transports, recorded.producers, recorded.consumers), counts);
    }

    /// Closes who is left on a core; how many.
    pub fn cut_core(&mut self, core: u8) -> usize {
        let closed = self.control.cut_core(self.now, CoreId(core));
        self.drain();
        closed
    }

    /// A core has ended, with whatever was there.
    pub fn remove_core(&mut self, core: u8) {
        self.books[usize::from(core)] = Books::default();
        self.control.remove_core(self.now, CoreId(core));
        self.drain();
    }

    /// Lets time pass, calling for time-outs when they are due.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.control.next_timeout() <= end {
            self.now = self.now.max(self.control.next_timeout());
            self.control.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The instant it is.
    pub fn instant(&self) -> Instant {
        self.origin + Duration::from_nanos(self.now.as_nanos())
    }

    /// What a client was told since it was last asked.
    pub fn news(&mut self, session: SessionId) -> Vec<Notification> {
        self.news.remove(&session).unwrap_or_default()
    }

    /// The same as short texts.
    pub fn news_texts(&mut self, session: SessionId) -> Vec<String> {
        self.news(session).iter().map(text_of).collect()
    }

    pub fn commands(&mut self) -> Vec<String> {
        std::mem::take(&mut self.commands)
    }

    /// Takes what control has to say.
    pub fn drain(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Response { session, token, result } => {
                    let of_room = |news: &&Notification| {
                        !matches!(news, Notification::Waiting | Notification::Admitted { .. })
                    };
                    let news = self.news.get(&session).into_iter().flatten().filter(of_room);
                    let news = news.count();
                    if let Ok(Response::Joined { .. }) = &result {
                        assert_eq!(news, 0, "the peers come before all news");
                    }
                    let twice = self.answers.insert((session, token), result);
                    assert!(twice.is_none(), "one answer per request");
                }
                Output::Notification { session, notification } => {
                    assert!(!self.closed.contains_key(&session), "news for a closed session");
                    self.news.entry(session).or_default().push(*notification);
                }
                Output::Close { session, reason, by } => {
                    self.closed.insert(session, reason);
                    self.closed_by.extend(by.map(|by| (session, by.to_string())));
                }
                Output::Opened { session } => assert!(self.opened.insert(session), "opened twice"),
                Output::Challenge { session } => self.challenged.push(session),
            }
        }
        self.administered.extend(std::iter::from_fn(|| self.control.poll_administered()));
        while let Some((core, command)) = self.control.poll_command() {
            self.book(core, command);
        }
    }

    fn book(&mut self, core: CoreId, command: Command) {
        let text = self.book_transport(core, command);
        let prefix = if self.books.len() > 1 { format!("{}: ", core.0) } else { String::new() };
        self.commands.push(format!("{prefix}{text}"));
    }

    /// Of transports and the core itself; the others are passed on.
    fn book_transport(&mut self, core: CoreId, command: Command) -> String {
        let books = books_of(&mut self.books, core);
        match command {
            Command::CreateTransport(config) => {
                assert!(books.transports.insert(config.id));
                "CreateTransport".to_owned()
            }
            Command::CloseTransport(id) => {
                assert!(books.transports.remove(&id), "no such transport");
                "CloseTransport".to_owned()
            }
            Command::RestartIce { transport, .. } => {
                assert!(books.transports.contains(&transport));
                "RestartIce".to_owned()
            }
            Command::SendDtls { transport, datagram } => {
                assert!(books.transports.contains(&transport));
                self.datagrams.entry(transport).or_default().push_back(datagram.into_vec());
                "SendDtls".to_owned()
            }
            Command::InstallSrtp { transport, keys } => {
                assert!(books.transports.contains(&transport));
                let twice = self.keys.insert(transport, *keys).is_some();
                assert!(!twice || self.replacing, "keys come once");
                "InstallSrtp".to_owned()
            }
            Command::ConnectPlain { transport, link } => {
                assert!(books.transports.contains(&transport));
                let twice = self.links.insert(transport, *link).is_some();
                assert!(!twice || self.replacing, "a pipeline is connected once");
                "ConnectPlain".to_owned()
            }
            Command::QueryStats { token, of } => {
                self.queries.push((core, token, of));
                "QueryStats".to_owned()
            }
            Command::ProveTuple { transport, .. } => {
                assert!(books.transports.contains(&transport));
                "ProveTuple".to_owned()
            }
            Command::SetOutgoingBitrate { .. } => "SetOutgoingBitrate".to_owned(),
            Command::Shutdown => "Shutdown".to_owned(),
            other => self.book_producer(core, other),
        }
    }

    /// Of producers and pipes; the others are passed on.
    fn book_producer(&mut self, core: CoreId, command: Command) -> String {
        let books = books_of(&mut self.books, core);
        match command {
            Command::CreateProducer(config) => {
                assert!(!config.encodings.is_empty() && !config.payload_types.is_empty());
                assert!(books.producers.insert(config.id));
                if let Origin::Transport(transport) = config.origin {
                    assert!(config.home != core || books.transports.contains(&transport));
                }
                let text = format!("CreateProducer {}", kind_text(config.kind));
                self.producers.insert(config.id, *config);
                text
            }
            Command::CloseProducer(id) => {
                assert!(books.producers.remove(&id), "no such producer");
                assert!(books.consumers.values().all(|(producer, _)| *producer != id));
                assert!(books.pipes.iter().all(|(producer, _)| *producer != id));
                books.carried.retain(|stage, source| *stage != id && *source != id);
                "CloseProducer".to_owned()
            }
            Command::PauseProducer(id) => {
                assert!(books.producers.contains(&id));
                "PauseProducer".to_owned()
            }
            Command::ResumeProducer(id) => {
                assert!(books.producers.contains(&id));
                "ResumeProducer".to_owned()
            }
            Command::SetStage { stage, source, .. } => {
                let config = self.producers.get(&stage).expect("no such producer");
                assert!(config.origin == Origin::Stage && config.home == core);
                assert!(books.producers.contains(&stage));
                match source {
                    Some(source) => {
                        assert!(books.producers.contains(&source), "nothing to carry here");
                        books.carried.insert(stage, source);
                    }
                    None => _ = books.carried.remove(&stage),
                }
                format!("SetStage{}", if source.is_some() { "" } else { " nobody" })
            }
            Command::MoveStage { stage, home } => {
                assert!(books.producers.contains(&stage), "no such producer");
                self.producers.get_mut(&stage).expect("it was made").home = home;
                format!("MoveStage to {}", home.0)
            }
            Command::AttachLink { .. } | Command::DetachLink(_) => {
                unreachable!("links are made below control")
            }
            Command::OpenPipe { producer, to } => {
                assert!(books.producers.contains(&producer) && to != core);
                assert!(books.pipes.insert((producer, to)) || self.replacing);
                format!("OpenPipe to {}", to.0)
            }
            Command::ClosePipe { producer, to } => {
                assert!(books.pipes.remove(&(producer, to)), "no such pipe");
                format!("ClosePipe to {}", to.0)
            }
            other => self.book_consumer(core, other),
        }
    }

    /// Of consumers.
    fn book_consumer(&mut self, core: CoreId, command: Command) -> String {
        let books = books_of(&mut self.books, core);
        match command {
            Command::CreateConsumer(config) => {
                assert!(books.transports.contains(&config.transport));
                assert!(books.producers.contains(&config.producer), "nothing to consume here");
                assert!(config.mid.len() <= 8 && !config.payload_types.is_empty());
                let twin = self.consumers.values().any(|other| {
                    books.consumers.contains_key(&other.id)
                        && other.transport == config.transport
                        && (other.mid == config.mid || other.ssrc == config.ssrc)
                });
                assert!(!twin, "MID and SSRC are unique on a transport");
                let record = (config.producer, config.paused);
                assert!(books.consumers.insert(config.id, record).is_none());
                let paused = if config.paused { " paused" } else { "" };
                self.consumers.insert(config.id, *config);
                format!("CreateConsumer{paused}")
            }
            Command::CloseConsumer(id) => {
                assert!(books.consumers.remove(&id).is_some(), "no such consumer");
                "CloseConsumer".to_owned()
            }
            Command::PauseConsumer(id) => {
                let record = books.consumers.get_mut(&id).expect("no such consumer");
                assert!(!std::mem::replace(&mut record.1, true), "paused already");
                "PauseConsumer".to_owned()
            }
            Command::ResumeConsumer(id) => {
                let record = books.consumers.get_mut(&id).expect("no such consumer");
                assert!(std::mem::replace(&mut record.1, false), "running already");
                "ResumeConsumer".to_owned()
            }
            Command::SetPreferredLayers { consumer, layers } => {
                assert!(books.consumers.contains_key(&consumer));
                format!("SetPreferredLayers {} {:?}", layers.spatial, layers.temporal)
            }
            Command::SetPriority { consumer, priority } => {
                assert!(books.consumers.contains_key(&consumer));
                format!("SetPriority {priority}")
            }
            Command::RequestKeyFrame(id) => {
                assert!(books.consumers.contains_key(&id));
                "RequestKeyFrame".to_owned()
            }
            _ => unreachable!("booked before"),
        }
    }

    /// Everything has been closed, inside and on the cores.
    pub fn assert_nothing_is_left(&self) {
        assert_eq!(self.control.counts(), Default::default());
        assert!(self.books.iter().all(Books::is_empty), "something was not closed on a core");
        assert_eq!(self.control.next_timeout(), Time::NEVER);
    }
}

fn kind_text(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    }
}

pub fn text_of(notification: &Notification) -> String {
    match notification {
        Notification::NewConsumer(options) => {
            format!("NewConsumer {} {:?}", options.peer_id, options.kind)
        }
        Notification::NewProducer { peer_id, kind, .. } => {
            format!("NewProducer {peer_id} {kind:?}")
        }
        Notification::NewDataConsumer(options) => {
            let owner = options.peer_id.as_deref().unwrap_or("the server");
            format!("NewDataConsumer {owner} {}", options.label)
        }
        Notification::NewDataProducer { peer_id, label, .. } => {
            let owner = peer_id.as_deref().unwrap_or("the server");
            format!("NewDataProducer {owner} {label}")
        }
        Notification::DataProducerClosed { .. } => "DataProducerClosed".to_owned(),
        Notification::DataConsumerClosed { .. } => "DataConsumerClosed".to_owned(),
        Notification::NewPeer(peer) => format!("NewPeer {}", peer.id),
        Notification::PeerClosed { peer_id } => format!("PeerClosed {peer_id}"),
        Notification::PeerDisplayNameChanged { display_name, old_display_name, .. } => {
            format!("PeerDisplayNameChanged {old_display_name} {display_name}")
        }
        Notification::ProducerClosed { .. } => "ProducerClosed".to_owned(),
        Notification::ConsumerClosed { .. } => "ConsumerClosed".to_owned(),
        Notification::ConsumerPaused { .. } => "ConsumerPaused".to_owned(),
        Notification::ConsumerResumed { .. } => "ConsumerResumed".to_owned(),
        Notification::ConsumerLayersChanged { layers, .. } => {
            format!("ConsumerLayersChanged {:?}", layers.map(|layers| layers.spatial))
        }
        Notification::ConsumerScore { score, .. } => {
            format!("ConsumerScore {} {}", score.score, score.producer_score)
        }
        Notification::ProducerScore { score, .. } => score_text(score),
        Notification::ProducerMaxSpatialLayer { spatial_layer, .. } => {
            format!("ProducerMaxSpatialLayer {spatial_layer}")
        }
        Notification::Stage(places) => stage_text(places),
        Notification::Speakers(speakers) => format!("Speakers {speakers:?}"),
        Notification::ConnectionQuality(quality) => format!("{quality:?}"),
        Notification::ProducerMuted { muted, by, .. } => {
            format!("ProducerMuted {muted}{}", done_by(by.as_deref()))
        }
        Notification::RoomLocked { locked, waiting_room, by } => {
            format!("RoomLocked {locked} {waiting_room}{}", done_by(by.as_deref()))
        }
        Notification::RecordingChanged { recording, reason, .. } => {
            format!("RecordingChanged {recording} {}", reason.unwrap_or("-"))
        }
        Notification::PushChanged { push, reason, .. } => {
            format!("PushChanged {push} {}", reason.unwrap_or("-"))
        }
        Notification::TapChanged { tap, reason, .. } => {
            format!("TapChanged {tap} {}", reason.unwrap_or("-"))
        }
        Notification::Caption(caption) => caption_text(caption),
        Notification::PeerWaiting { peer_id, display_name } => {
            format!("PeerWaiting {peer_id} {display_name}")
        }
        Notification::PeerWaitingEnded { peer_id } => format!("PeerWaitingEnded {peer_id}"),
        Notification::CodecAdvice(advice) => format!("CodecAdvice {}", advice.reason),
        Notification::Mls(news) => mls_text(news),
        Notification::Waiting => "Waiting".to_owned(),
        Notification::Admitted { by } => format!("Admitted{}", done_by(by.as_deref())),
        Notification::DownlinkBandwidth(bandwidth) => bandwidth_text(bandwidth),
    }
}

fn score_text(score: &[EncodingScore]) -> String {
    let scores: Vec<u8> = score.iter().map(|score| score.score).collect();
    format!("ProducerScore {scores:?}")
}

fn bandwidth_text(bandwidth: &DownlinkBandwidth) -> String {
    let (desired, effective) = (bandwidth.desired_bitrate, bandwidth.effective_desired_bitrate);
    format!("DownlinkBandwidth {desired} {effective} {}", bandwidth.available_bitrate)
}

fn caption_text(caption: &Caption) -> String {
    let mark = if caption.interim { "…" } else { "" };
    format!("Caption {} {} {}{mark}", caption.utterance, caption.peer_id, caption.text)
}

fn stage_text(places: &[StagePlace]) -> String {
    let place = |place: &StagePlace| {
        let letter = if place.kind == Kind::Audio { 'a' } else { 'v' };
        format!(" {letter}{}={}", place.slot, place.peer_id.as_deref().unwrap_or("-"))
    };
    format!("Stage{}", places.iter().map(place).collect::<String>())
}

fn mls_text(news: &MlsNews) -> String {
    match news {
        MlsNews::Offered { peer_id, key_package } => {
            format!("Offered {peer_id} {}", key_package.as_deref().unwrap_or("-"))
        }
        MlsNews::Left { peer_id } => format!("Left {peer_id}"),
        MlsNews::Commit(commit) => {
            format!(
                "Commit {} {} {} {}",
                commit.peer_id, commit.group_id, commit.epoch, commit.commit
            )
        }
        MlsNews::Welcome { welcome, group_info, state } => {
            let (id, epoch) = state.group.as_ref().expect("a group");
            format!("Welcome {id} {epoch} {welcome} {group_info}")
        }
        MlsNews::Ended { group_id } => format!("Ended {group_id}"),
    }
}

fn done_by(by: Option<&str>) -> String {
    by.map(|by| format!(" by {by}")).unwrap_or_default()
}

/// What mediasoup-client reports for a browser that can do all that the router can.
pub fn capabilities() -> RtpCapabilities {
    ortc::router_rtp_capabilities(&ortc::default_codecs()).expect("default codecs")
}

pub fn audio(mid: &str) -> RtpParameters {
    serde_json::from_value(json!({
        "mid": mid,
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
            "channels": 2, "parameters": {"minptime": 10, "useinbandfec": 1}}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4},
            {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1}],
        "encodings": [{"ssrc": 1000 + mid.len(), "dtx": true}],
        "rtcp": {"cname": "browser"}
    }))
    .expect("parameters")
}

pub fn simulcast(mid: &str) -> RtpParameters {
    serde_json::from_value(json!({
        "mid": mid,
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
             "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"},
                {"type": "transport-cc"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
             "parameters": {"apt": 96}}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4},
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 10}],
        "encodings": [{"rid": "r0", "scalabilityMode": "L1T3", "maxBitrate": 100_000},
            {"rid": "r1", "scalabilityMode": "L1T3", "maxBitrate": 300_000},
            {"rid": "r2", "scalabilityMode": "L1T3", "maxBitrate": 900_000}],
        "rtcp": {"cname": "browser", "reducedSize": true}
    }))
    .expect("parameters")
}

pub fn json_object(value: Value) -> JsonObject {
    serde_json::from_value(value).expect("an object")
}

pub fn join(name: &str) -> Request {
    Request::Join {
        codec_hints: None,
        display_name: name.to_owned(),
        device: JsonObject::default(),
        rtp_capabilities: Some(capabilities()),
    }
}

pub fn create(direction: Direction) -> Request {
    Request::CreateTransport { direction, force_tcp: false, sctp: SctpMode::Negotiated }
}

pub fn produce(transport: &str, kind: Kind, rtp_parameters: RtpParameters) -> Request {
    let app_data = json_object(json!({"source": "camera"}));
    Request::Produce {
        transport_id: transport.to_owned(),
        kind,
        rtp_parameters,
        app_data,
        paused: false,
    }
}

pub fn consume(producer: &str) -> Request {
    Request::Consume {
        producer_id: producer.to_owned(),
        rtp_capabilities: None,
        transport_id: None,
        mid: None,
        paused: false,
    }
}

pub fn ready(consumer: &str, accepted: bool) -> Request {
    Request::ConsumerReady { consumer_id: consumer.to_owned(), accepted }
}

/// A client that has entered the room with both transports.
pub struct Client {
    pub session: SessionId,
    pub send: TransportOptions,
    pub recv: TransportOptions,
}

impl Talk {
    pub fn transport(&mut self, session: SessionId, direction: Direction) -> TransportOptions {
        match self.ok(session, create(direction)) {
            Response::Transport(options) => options,
            _ => panic!("a transport was asked for"),
        }
    }

    /// The newest transport on any core: the one just made.
    pub fn newest_transport(&self) -> (u8, TransportId) {
        let all = self.books.iter().enumerate();
        let all = all.flat_map(|(core, books)| books.transports.iter().map(move |id| (core, *id)));
        let (core, id) = all.max_by_key(|(_, id)| *id).expect("there is one");
        (core as u8, id)
    }

    /// Connects, makes both transports and joins.
    pub fn enter(&mut self, peer: &str, mode: ConsumeMode) -> Client {
        self.enter_with(peer, mode, Grants::default())
    }

    /// The same with what a token grants.
    pub fn enter_with(&mut self, peer: &str, mode: ConsumeMode, grants: Grants) -> Client {
        let session = self.connect_with("room", peer, mode, grants);
        let send = self.transport(session, Direction::Send);
        let recv = self.transport(session, Direction::Recv);
        self.ok(session, join(peer));
        Client { session, send, recv }
    }

    /// Produces; the producer's id.
    pub fn produce(&mut self, client: &Client, kind: Kind, parameters: RtpParameters) -> String {
        match self.ok(client.session, produce(&client.send.id, kind, parameters)) {
            Response::Produced { producer_id } => producer_id,
            _ => panic!("a producer was asked for"),
        }
    }

    /// Offered consumers among a client's news.
    pub fn offers(&mut self, session: SessionId) -> Vec<ConsumerOptions> {
        let news = self.news(session).into_iter();
        news.filter_map(|news| match news {
            Notification::NewConsumer(options) => Some(options),
            _ => None,
        })
        .collect()
    }

    /// The newest producer made on any core.
    pub fn newest_producer(&self) -> ProducerId {
        *self.producers.keys().max().expect("there is one")
    }

    /// The newest consumer made on any core.
    pub fn newest_consumer(&self) -> ConsumerId {
        *self.consumers.keys().max().expect("there is one")
    }
}

/// A browser's side of a handshake.
pub struct Browser {
    pub endpoint: DtlsEndpoint,
    pub fingerprint: DtlsFingerprint,
    pub keys: Option<KeyingMaterial>,
    pub failed: Option<String>,
    pub closed: bool,
    /// What came inside DTLS and nobody has read yet.
    pub inside: VecDeque<Box<[u8]>>,
}

impl Browser {
    pub fn new(
        role: opencall_control::dtls::Role,
        server: &TransportOptions,
        now: Instant,
    ) -> Browser {
        let context = DtlsContext::new(&DtlsConfig::default()).expect("a certificate");
        let mut endpoint = DtlsEndpoint::new(&context, role, now);
        let fingerprints = PeerFingerprints::parse(&server.dtls_parameters.fingerprints);
        endpoint.set_peer_fingerprints(fingerprints.expect("readable"));
        let fingerprint = context.fingerprint();
        let inside = VecDeque::new();
        Browser { endpoint, fingerprint, keys: None, failed: None, closed: false, inside }
    }

    pub fn parameters(&self, role: DtlsRole) -> DtlsParameters {
        DtlsParameters { role, fingerprints: vec![self.fingerprint.clone()] }
    }
}

impl Talk {
    /// Carries DTLS datagrams between a browser and a transport until both are silent.
    pub fn exchange(&mut self, browser: &mut Browser, core: u8, transport: TransportId) {
        let now = self.origin + Duration::from_nanos(self.now.as_nanos());
        loop {
            let mut silent = true;
            while let Some(output) = browser.endpoint.poll_output() {
                match output {
                    DtlsOutput::Datagram(datagram) => {
                        silent = false;
                        self.event(core, Event::Dtls { transport, unproven: None, datagram });
                    }
                    DtlsOutput::Connected(keys) => browser.keys = Some(*keys),
                    DtlsOutput::Data(packet) => browser.inside.push_back(packet),
                    DtlsOutput::Closed => browser.closed = true,
                    DtlsOutput::Failed(reason) => browser.failed = Some(reason),
                }
            }
            let datagrams = self.datagrams.remove(&transport).unwrap_or_default();
            for datagram in datagrams {
                silent = false;
                browser.endpoint.handle_datagram(&datagram, now);
            }
            if silent {
                return;
            }
        }
    }
}
