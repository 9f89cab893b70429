//! The control core's machine: requests and events in; answers, news and commands out.
//!
//! ```text
//! signaling ──Request──▶ ┌─────────┐ ──Command──▶ data cores
//!           ◀──Output─── │ Control │ ◀──Event────
//!                        └─────────┘
//! ```
//!
//! It has no clock, socket or thread. Feed it, then drain [`Control::poll_output`] and
//! [`Control::poll_command`], and call [`Control::handle_timeout`] at [`Control::next_timeout`].
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use opencall_dataplane::calls::CallMemory;
use opencall_dataplane::message::{
    Command, ConsumerId, CoreId, Event, MAX_CORES, ProducerId, TransportId,
};
use opencall_dataplane::planted::{self, Bug};
use opencall_dataplane::records::{RecordCounts, Records};
use opencall_recorder::message::RecordCommand;
use opencall_wire::time::Time;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::admin::AdminResponse;
use crate::api::{
    CloseReason, Notification, Output, Request, RequestError, Response, SessionConfig, SessionId,
    Token,
};
use crate::consumer::Consumer;
use crate::contest::Contest;
use crate::data::{
    DataChannels, DataConsumerId, DataDropCounters, DataProducerId, DataProducerRequest,
};
use crate::dtls::{DtlsConfig, DtlsContext, DtlsDropCounters};
use crate::error::ControlError;
use crate::ids::Ids;
use crate::known_capabilities::KnownCapabilities;
use crate::left::Left;
use crate::limits::{Limits, not_allowed};
use crate::ortc;
use crate::peer::Peer;
use crate::placement::{Placement, PlacementPolicy};
use crate::producer::Producer;
use crate::push::PushTotals;
use crate::push::message::PushCommand;
use crate::recording::RecordingTotals;
use crate::room::{Room, RoomId};
use crate::room_events::{RoomEvent, RoomEventKind};
use crate::rtp_parameters::{RtpCapabilities, RtpCodecCapability};
use crate::stage::StageConfig;
use crate::stats::StatsJob;
use crate::tap::TapTotals;
use crate::tap::message::TapCommand;
use crate::timers::Timers;
use crate::transport::Transport;
use crate::waiting::Waiting;

/// Budget of a client, whose link is not measured yet: a grid of 25 small pictures fits. More
/// floods slow links, with less large rooms lose whole videos.
const INITIAL_OUTGOING_BITRATE_BPS: u32 = 6_000_000;

/// How clients reach one data core.
#[derive(Debug, Clone)]
pub struct CoreAddresses {
    /// Announced addresses, the preferred one first; the ports name the core.
    pub announced: Vec<SocketAddr>,
}

/// Settings of the control core.
#[derive(Clone)]
pub struct ControlConfig {
    /// The data cores at start, in the order of their [`CoreId`].
    pub cores: Vec<CoreAddresses>,
    /// Codecs in order of preference; see [`ortc::codec_list`].
    pub codecs: Vec<RtpCodecCapability>,
    /// DTLS certificate, version and SRTP profiles.
    pub dtls: DtlsConfig,
    /// How rooms meet cores.
    pub placement: PlacementPolicy,
    /// Video budget of a new receiving transport, bits per second.
    pub outgoing_bitrate_bps: u32,
    /// Whether the cores' addresses take ICE over TCP, too.
    pub ice_tcp: bool,
    /// Announced addresses that take ICE over TCP for every core.
    pub shared_tcp: Vec<SocketAddr>,
    /// Whether, without tokens, who enters a room first is its host. Ids prove nothing then: for
    /// development.
    pub dev_hosts: bool,
    /// When rooms have a stage.
    pub stage: StageConfig,
    /// Whether what happens in rooms is reported ([`Control::poll_room_event`]).
    pub room_events: bool,
    /// How many rooms may be recorded at a time; `None`: there is no sink.
    pub recordings: Option<usize>,
    /// How many rooms may be tapped at a time; `None`: there is nothing that taps.
    pub taps: Option<usize>,
    /// How many rooms may be broadcast at a time; `None`: there is nothing that broadcasts.
    pub pushes: Option<usize>,
    /// Bounds.
    pub limits: Limits,
    /// Unix time at [`Time::ZERO`], milliseconds: for the timestamps of statistics.
    pub unix_origin_ms: u64,
    /// Seed of ids, SSRCs and ICE credentials, for tests and simulations; else they come from the
    /// system. SRTP keys come from DTLS, see [`DtlsConfig::seed`].
    pub seed: Option<u64>,
}

impl ControlConfig {
    /// Defaults for everything but the addresses.
    pub fn new(cores: Vec<CoreAddresses>) -> Self {
        ControlConfig {
            cores,
            codecs: ortc::default_codecs(),
            dtls: DtlsConfig::default(),
            placement: PlacementPolicy::default(),
            outgoing_bitrate_bps: INITIAL_OUTGOING_BITRATE_BPS,
            ice_tcp: false,
            shared_tcp: Vec::new(),
            dev_hosts: false,
            stage: StageConfig::default(),
            room_events: false,
            recordings: None,
            taps: None,
            pushes: None,
            limits: Limits::default(),
            unix_origin_ms: 0,
            seed: None,
        }
    }

    fn check(&self) -> Result<(), ControlError> {
        let refused = |reason: &str| Err(ControlError::Config(reason.to_owned()));
        if self.cores.is_empty() || self.cores.len() > MAX_CORES {
            return refused("the number of data cores must be 1 to 128");
        }
        if self.cores.iter().any(|core| core.announced.is_empty()) {
            return refused(
                "each data core needs an announced address: set MEDIASOUP_ANNOUNCED_IP",
            );
        }
        let unreachable = |address: &SocketAddr| address.ip().is_unspecified();
        if self.cores.iter().flat_map(|core| &core.announced).any(unreachable) {
            return refused(
                "0.0.0.0 or :: cannot be announced to clients: set MEDIASOUP_ANNOUNCED_IP to an \
                 address they can reach",
            );
        }
        if self.codecs.is_empty() {
            return refused("the router needs at least one codec");
        }
        Ok(())
    }
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Timer {
    /// A DTLS flight may have to be sent again.
    Dtls(TransportId),
    /// A transport has been without ICE consent for too long.
    Grace(TransportId),
    /// A room may have news of its speakers.
    Speakers(RoomId),
    /// Less has been wanted of a producer for a while.
    Demand(ProducerId),
    /// The answers to a question about statistics are late.
    Stats(u64),
    /// The client of a session has not answered whether it is there.
    Contest(SessionId),
    /// An association has a packet to send again, or one to acknowledge.
    Sctp(TransportId),
    /// Data channels have messages to read or to send.
    Data,
    /// A reliable data consumer has been full for too long.
    Laggard(DataConsumerId),
    /// Nobody has let someone in for long.
    Waiting(SessionId),
    /// The notice of a room's recording is over.
    Recording(RoomId),
    /// The notice of a room's tap is over.
    Tap(RoomId),
    /// The notice of a room's push is over.
    Push(RoomId),
    /// A path has been such for a while that its client had better send otherwise.
    Advice(SessionId),
    /// What the process before has left is over.
    Left,
}

/// What is done once a request has been answered.
pub(crate) enum After {
    /// Nothing.
    Nothing,
    /// Offer the client what others produce, and tell them of it.
    Entered,
    /// Offer the client what others produce.
    Offer,
    /// Offer a new producer to the others.
    Produced(ProducerId),
    /// Offer a new data producer to the others.
    ProducedData(DataProducerId),
}

/// How many of everything there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rooms.
    pub rooms: usize,
    /// Signaling sessions, in a room, about to enter one or waiting to be let in.
    pub sessions: usize,
    /// Peers that have entered their room.
    pub peers: usize,
    /// Transports.
    pub transports: usize,
    /// Producers.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
    /// Data producers.
    pub data_producers: usize,
    /// Data consumers.
    pub data_consumers: usize,
    /// Producers that reach another core, once for each core.
    pub pipes: usize,
    /// Data cores that cannot keep up.
    pub overloaded_cores: usize,
    /// Transports that the process before has left, whose clients have not come back yet.
    pub left_transports: usize,
}

/// What a request makes the server do, in units of about one message to one client or data core. It
/// is what a client pays for: one that is read by a hundred others costs a hundred times as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work(pub u32);

/// Bytes to clients that count as one unit of [`Work`].
const BYTES_PER_UNIT: usize = 2_048;

impl Work {
    fn of(messages: usize, bytes: usize) -> Self {
        let units = 1 + messages + bytes / BYTES_PER_UNIT;
        Work(u32::try_from(units).unwrap_or(u32::MAX))
    }
}

/// The control core.
pub struct Control {
    pub(crate) config: ControlConfig,
    pub(crate) router: Arc<RtpCapabilities>,
    pub(crate) known_capabilities: KnownCapabilities,
    pub(crate) dtls: DtlsContext,
    pub(crate) dtls_drops: DtlsDropCounters,
    pub(crate) origin: Instant,
    pub(crate) now: Time,
    pub(crate) rng: StdRng,
    pub(crate) ids: Ids,
    pub(crate) placement: Placement,
    /// Where the data cores are reached.
    pub(crate) addresses: BTreeMap<CoreId, CoreAddresses>,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
    pub(crate) room_names: HashMap<String, RoomId>,
    pub(crate) peers: BTreeMap<SessionId, Peer>,
    pub(crate) transports: HashMap<TransportId, Transport>,
    pub(crate) producers: HashMap<ProducerId, Producer>,
    pub(crate) consumers: HashMap<ConsumerId, Consumer>,
    pub(crate) data: DataChannels,
    pub(crate) stats_jobs: HashMap<u64, StatsJob>,
    /// Questions to data cores: of which job, and its place among the job's questions.
    pub(crate) stats_queries: HashMap<u64, (u64, usize)>,
    /// Sessions whose peer another client claims to be, and who claims it.
    pub(crate) contests: HashMap<SessionId, Contest>,
    /// The room in which a session gives way to another just now.
    pub(crate) handed_over: Option<RoomId>,
    /// Who waits in front of a locked room.
    pub(crate) waiting: HashMap<SessionId, Waiting>,
    pub(crate) timers: Timers<Timer>,
    /// How many peers have entered a room so far.
    pub(crate) joins: u64,
    /// What happened in rooms, where anyone asks.
    pub(crate) room_events: Option<VecDeque<RoomEvent>>,
    /// Answers to administrators.
    pub(crate) administered: VecDeque<(Token, Result<AdminResponse, RequestError>)>,
    /// For the sink.
    pub(crate) record_commands: VecDeque<RecordCommand>,
    /// What became of recordings that have ended.
    pub(crate) recording_totals: RecordingTotals,
    /// For the thread that taps.
    pub(crate) tap_commands: VecDeque<TapCommand>,
    /// What became of its results.
    pub(crate) tap_totals: TapTotals,
    /// For the thread that broadcasts.
    pub(crate) push_commands: VecDeque<PushCommand>,
    /// What became of pushes that have ended.
    pub(crate) push_totals: PushTotals,
    outputs: VecDeque<Output>,
    commands: VecDeque<(CoreId, Command)>,
    /// What data cores were told and still holds.
    records: Records,
    /// What is in the records of the process before.
    pub(crate) left: Left,
}

impl Control {
    /// A control core without rooms. `origin` is the instant that [`Time::ZERO`] stands for: the
    /// DTLS library wants instants.
    pub fn new(config: ControlConfig, origin: Instant) -> Result<Self, ControlError> {
        config.check()?;
        let router = Arc::new(ortc::router_rtp_capabilities(&config.codecs)?);
        let dtls = DtlsContext::new(&config.dtls)?;
        let mut rng = match config.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        let ids = Ids::new(rand::RngExt::random(&mut rng));
        let placement = Placement::new(config.placement, config.cores.len());
        let cores = (0..MAX_CORES).map(|index| CoreId(index as u8));
        let addresses = cores.zip(config.cores.iter().cloned()).collect();
        Ok(Control {
            router,
            known_capabilities: KnownCapabilities::default(),
            dtls,
            dtls_drops: DtlsDropCounters::default(),
            origin,
            now: Time::ZERO,
            rng,
            ids,
            placement,
            addresses,
            rooms: BTreeMap::new(),
            room_names: HashMap::new(),
            peers: BTreeMap::new(),
            transports: HashMap::new(),
            producers: HashMap::new(),
            consumers: HashMap::new(),
            data: DataChannels::default(),
            stats_jobs: HashMap::new(),
            stats_queries: HashMap::new(),
            contests: HashMap::new(),
            handed_over: None,
            waiting: HashMap::new(),
            timers: Timers::new(),
            joins: 0,
            room_events: config.room_events.then(VecDeque::new),
            administered: VecDeque::new(),
            record_commands: VecDeque::new(),
            recording_totals: RecordingTotals::default(),
            tap_commands: VecDeque::new(),
            tap_totals: TapTotals::default(),
            push_commands: VecDeque::new(),
            push_totals: PushTotals::default(),
            outputs: VecDeque::new(),
            commands: VecDeque::new(),
            records: Records::default(),
            left: Left::default(),
            config,
        })
    }

    /// What every room's router can do.
    pub fn router_rtp_capabilities(&self) -> &Arc<RtpCapabilities> {
        &self.router
    }

    /// A client has connected. [`Output::Opened`] lets it in, or [`Output::Close`] does not: see
    /// [`SessionConfig::peer`].
    pub fn open_session(&mut self, now: Time, config: SessionConfig) -> SessionId {
        self.now = now;
        self.open(config)
    }

    /// A client's connection is gone. An unknown session is ignored. Returns the work it made.
    pub fn close_session(&mut self, now: Time, session: SessionId) -> Work {
        self.now = now;
        let before = self.outputs.len() + self.commands.len();
        self.hand_over(session, |control| match control.forget_session(session, None) {
            true => control.settle_contest(session),
            false => control.leave_contest(session),
        });
        Work::of(self.outputs.len() + self.commands.len() - before, 0)
    }

    /// The client of a challenged session ([`Output::Challenge`]) is there.
    pub fn challenge_answered(&mut self, now: Time, session: SessionId) {
        self.now = now;
        self.challenge_held(session);
    }

    /// The server stops: every session is closed with [`CloseReason::Shutdown`].
    pub fn shutdown(&mut self, now: Time) {
        self.now = now;
        self.close_contests();
        while let Some(&session) = self.peers.keys().chain(self.waiting.keys()).next() {
            self.close_with(session, CloseReason::Shutdown);
        }
    }

    /// A request of a client; the answer comes as an [`Output::Response`] with the token. Returns
    /// the work it made.
    pub fn handle_request(
        &mut self,
        now: Time,
        session: SessionId,
        token: Token,
        request: Request,
    ) -> Work {
        self.now = now;
        let before = self.waiting();
        self.serve(session, token, request);
        self.work_since(before, 0)
    }

    /// It is so late.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now = now;
    }

    /// How many outputs and commands wait to be taken.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.outputs.len(), self.commands.len())
    }

    /// What was done since so many waited, and `seen` things looked at.
    pub(crate) fn work_since(&self, (outputs, commands): (usize, usize), seen: usize) -> Work {
        let outputs = self.outputs.range(outputs..);
        let bytes: usize = outputs.clone().map(Output::size).sum();
        Work::of(outputs.len() + self.commands.len() - commands + seen, bytes)
    }

    pub(crate) fn serve(&mut self, session: SessionId, token: Token, request: Request) {
        if self.waiting.contains_key(&session) {
            return self.hold(session, token, request);
        }
        if !self.peers.contains_key(&session) {
            let reason = "this session was closed: connect again";
            return self.answer(session, token, Err(not_allowed(reason)));
        }
        if let Request::Stats(of) = request {
            return self.ask_stats(session, token, of);
        }
        match self.perform(session, request) {
            Err(error) => self.answer(session, token, Err(error)),
            Ok((response, after)) => {
                self.answer(session, token, Ok(response));
                match after {
                    After::Nothing => {}
                    After::Entered => {
                        self.note_joined(session);
                        self.offer_existing(session);
                        self.announce_peer(session);
                        self.tell_of_waiting(session);
                        self.review_room_of(session);
                    }
                    After::Offer => {
                        self.offer_existing(session);
                        self.review_room_of(session);
                    }
                    After::Produced(producer) => {
                        self.note_track(producer, RoomEventKind::TrackPublished);
                        self.offer_producer(producer);
                        self.record_producer(producer);
                        self.tap_voice(producer);
                        self.push_producer(producer);
                        self.tell_if_muted(producer);
                    }
                    After::ProducedData(producer) => self.offer_data_producer(producer),
                }
            }
        }
    }

    fn perform(
        &mut self,
        session: SessionId,
        request: Request,
    ) -> Result<(Response, After), RequestError> {
        let done = |()| (Response::Done, After::Nothing);
        match request {
            Request::RouterRtpCapabilities => {
                let capabilities = Arc::clone(&self.router);
                Ok((Response::RouterRtpCapabilities(capabilities), After::Nothing))
            }
            Request::Join { display_name, device, rtp_capabilities, codec_hints } => {
                self.join(session, display_name, device, rtp_capabilities, codec_hints)
            }
            Request::SetRtpCapabilities { rtp_capabilities, display_name, codec_hints } => {
                self.set_rtp_capabilities(session, rtp_capabilities, display_name, codec_hints)
            }
            Request::CreateTransport { direction, force_tcp, sctp } => {
                self.create_transport(session, direction, force_tcp, sctp)
            }
            Request::ConnectTransport { transport_id, dtls_parameters } => {
                let after = self.connect_transport(session, &transport_id, &dtls_parameters)?;
                Ok((Response::Done, after))
            }
            Request::CreatePlainTransport(options) => self.create_plain_transport(session, options),
            Request::ConnectPlainTransport { transport_id, connection } => {
                self.connect_plain_transport(session, &transport_id, &connection).map(done)
            }
            Request::RestartIce { transport_id } => {
                let parameters = self.restart_ice(session, &transport_id)?;
                Ok((Response::Ice(parameters), After::Nothing))
            }
            Request::Produce { transport_id, kind, rtp_parameters, app_data, paused } => {
                self.produce(session, &transport_id, kind, &rtp_parameters, app_data, paused)
            }
            Request::CloseProducer { producer_id } => {
                let producer = self.own_producer(session, &producer_id)?;
                self.remove_producer(producer);
                Ok(done(()))
            }
            Request::PauseProducer { producer_id } => {
                self.pause_producer(session, &producer_id, true).map(done)
            }
            Request::ResumeProducer { producer_id } => {
                self.pause_producer(session, &producer_id, false).map(done)
            }
            Request::Consume { producer_id, rtp_capabilities, transport_id, mid, paused } => {
                self.consume(session, &producer_id, rtp_capabilities, transport_id, mid, paused)
            }
            Request::View { of, kind } => Ok((self.view(session, of, kind)?, After::Nothing)),
            Request::Participants { after, limit, only } => {
                let page = match only {
                    Some(names) => self.named_participants(session, &names)?,
                    None => self.participants(session, after.as_deref(), limit)?,
                };
                Ok((page, After::Nothing))
            }
            Request::ChangeDisplayName { display_name } => {
                self.change_display_name(session, display_name).map(done)
            }
            Request::Host(action) => self.act_as_host(session, &action).map(done),
            Request::Mls(request) => Ok((self.deliver(session, request)?, After::Nothing)),
            request => self.perform_on_data(session, request),
        }
    }

    fn perform_on_data(
        &mut self,
        session: SessionId,
        request: Request,
    ) -> Result<(Response, After), RequestError> {
        let done = |()| (Response::Done, After::Nothing);
        match request {
            Request::ProduceData {
                transport_id,
                sctp_stream_parameters: parameters,
                label,
                protocol,
                app_data,
            } => {
                let request =
                    DataProducerRequest { transport_id, parameters, label, protocol, app_data };
                self.produce_data(session, request)
            }
            Request::ConsumeData { data_producer_id, transport_id } => {
                self.consume_data(session, &data_producer_id, transport_id)
            }
            Request::DataConsumerReady { data_consumer_id, accepted } => {
                self.data_consumer_ready(session, &data_consumer_id, accepted).map(done)
            }
            Request::CloseDataProducer { data_producer_id } => {
                let producer = self.own_data_producer(session, &data_producer_id)?;
                self.remove_data_producer(producer);
                Ok(done(()))
            }
            Request::CloseDataConsumer { data_consumer_id } => {
                let consumer = self.own_data_consumer(session, &data_consumer_id)?;
                self.remove_data_consumer(consumer);
                Ok(done(()))
            }
            request => self.perform_on_consumer(session, request).map(done),
        }
    }

    /// News of a data core.
    pub fn handle_event(&mut self, now: Time, core: CoreId, event: Event) {
        self.now = now;
        match event {
            Event::Ice { transport, state, remote } => self.ice_moved(transport, state, remote),
            Event::Dtls { transport, unproven, datagram } => {
                self.dtls_datagram(transport, unproven, &datagram);
            }
            Event::ProducerScore { producer, scores } => {
                self.producer_scored(core, producer, &scores);
            }
            Event::ConsumerScore { consumer, score } => self.consumer_scored(consumer, score),
            Event::LayersChanged { consumer, layers } => self.layers_changed(consumer, layers),
            Event::EncodingsWanted { producer, count } => {
                self.encodings_wanted(core, producer, count);
            }
            Event::Bandwidth { transport, bandwidth } => {
                self.bandwidth_changed(transport, bandwidth)
            }
            Event::Overload { ceiling_bps } => self.placement.set_ceiling(core, ceiling_bps),
            Event::AudioLevel { producer, levels_dbov } => self.heard(core, producer, levels_dbov),
            Event::StageTaken { stage, source } => self.stage_taken(core, stage, source),
            Event::StageRefused { stage, source } => self.stage_refused(core, stage, source),
            Event::Stats { token, stats } => self.stats_answered(token, stats),
        }
    }

    /// [`Control::next_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Dtls(transport) => self.dtls_timeout(transport),
                Timer::Grace(transport) => self.grace_is_over(transport),
                Timer::Speakers(room) => self.tell_speakers(room),
                Timer::Demand(producer) => self.tell_demand(producer),
                Timer::Stats(job) => self.finish_stats(job),
                Timer::Contest(session) => self.challenge_lost(session),
                Timer::Sctp(transport) => self.sctp_timeout(transport),
                Timer::Data => self.run_data(),
                Timer::Laggard(consumer) => self.cut_laggard(consumer),
                Timer::Waiting(session) => self.close_with(session, CloseReason::NotAdmitted),
                Timer::Recording(room) => self.begin_recording(room),
                Timer::Tap(room) => self.open_tap(room),
                Timer::Push(room) => self.open_push(room),
                Timer::Advice(session) => self.path_has_lasted(session),
                Timer::Left => self.left_is_over(),
            }
        }
    }

    /// When [`Control::handle_timeout`] wants to be called; [`Time::NEVER`] if not at all.
    pub fn next_timeout(&self) -> Time {
        self.timers.next()
    }

    /// What signaling has to deliver, in order; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What data cores have to do, in order; ask until there is nothing.
    pub fn poll_command(&mut self) -> Option<(CoreId, Command)> {
        self.commands.pop_front()
    }

    /// The measured share of time that a core is busy (0–1), for the placement of newcomers.
    pub fn set_core_load(&mut self, core: CoreId, busy: f32) {
        self.placement.set_cpu(core, busy);
    }

    /// How many of everything there are.
    pub fn counts(&self) -> Counts {
        Counts {
            rooms: self.rooms.len(),
            sessions: self.peers.len() + self.waiting.len(),
            peers: self.peers.values().filter(|peer| peer.joined).count(),
            transports: self.transports.len(),
            producers: self.producers.len(),
            consumers: self.consumers.len(),
            data_producers: self.data.producers.len(),
            data_consumers: self.data.consumers.len(),
            pipes: self.producers.values().map(Producer::pipe_count).sum(),
            overloaded_cores: self.placement.overloaded(),
            left_transports: self.left.count(),
        }
    }

    /// How many peers have entered a room so far.
    pub fn joins(&self) -> u64 {
        self.joins
    }

    /// DTLS records and messages that went no further, by reason.
    pub fn dtls_drops(&self) -> &DtlsDropCounters {
        &self.dtls_drops
    }

    /// Messages and channels of data that went no further, by reason.
    pub fn data_drops(&self) -> &DataDropCounters {
        &self.data.drops
    }

    /// How many transports live on a core.
    pub fn transports_on(&self, core: CoreId) -> usize {
        self.placement.transports(core) as usize
    }

    pub(crate) fn answer(
        &mut self,
        session: SessionId,
        token: Token,
        result: Result<Response, RequestError>,
    ) {
        self.outputs.push_back(Output::Response { session, token, result });
    }

    pub(crate) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn notify(&mut self, session: SessionId, notification: Notification) {
        self.outputs
            .push_back(Output::Notification { session, notification: Box::new(notification) });
    }

    /// Tells a data core something: the only way by which commands leave.
    pub(crate) fn command(&mut self, core: CoreId, command: Command) {
        self.records.note(core, &command);
        self.commands.push_back((core, command));
    }

    /// A data core has died, and an empty one is in its place: tells it all that the dead one was
    /// told and that still holds. Neither clients nor what control knows of them change; what waits
    /// for the dead core is not sent, for the records hold it.
    pub fn core_replaced(&mut self, now: Time, core: CoreId) {
        self.now = now;
        self.commands.retain(|(to, _)| *to != core);
        self.commands.extend(self.records.replay(core));
        self.placement.set_ceiling(core, None);
        self.forget_demands_of(core);
        self.await_clients_of(core);
        if planted::is(Bug::DeathTold) {
            self.tell_of_death(core);
        }
    }

    /// Begins with records that outlive the process; the cores, which are empty, are told these
    /// commands.
    pub(crate) fn keep_records(&mut self, records: Records, told: Vec<(CoreId, Command)>) {
        self.records = records;
        self.commands.extend(told);
    }

    /// Whether what cores are told outlives the process.
    pub(crate) fn outlives_the_process(&self) -> bool {
        self.records.outlive_the_process()
    }

    /// Where checkpoints are made.
    pub(crate) fn call_memory(&self) -> CallMemory {
        self.records.memory()
    }

    /// Ends these transports of the process before with what nobody needs then; `rest`: all of it.
    pub(crate) fn close_left(&mut self, ended: &BTreeSet<TransportId>, rest: bool) {
        for (core, command) in self.records.closings(ended, self.left.last_id(), rest) {
            self.command(core, command);
        }
    }

    /// For a planted fault.
    fn tell_of_death(&mut self, core: CoreId) {
        let told = self.consumers.iter().filter(|(_, consumer)| consumer.core == core);
        let mut told: Vec<_> = told.map(|(&id, consumer)| (id, consumer.session)).collect();
        told.sort();
        for (id, session) in told {
            let consumer_id = self.ids.text(id.0);
            self.notify(session, Notification::ConsumerResumed { consumer_id });
        }
    }

    /// A data core is gone.
    pub(crate) fn forget_records(&mut self, core: CoreId) {
        self.records.forget(core);
        self.commands.retain(|(to, _)| *to != core);
    }

    /// How much of a data core is in the records.
    pub fn recorded(&self, core: CoreId) -> RecordCounts {
        self.records.counts(core)
    }

    /// Closes a session from our side.
    pub(crate) fn close_with(&mut self, session: SessionId, reason: CloseReason) {
        self.close_by(session, reason, None);
    }

    /// The same, for a host who wants it.
    pub(crate) fn close_by(
        &mut self,
        session: SessionId,
        reason: CloseReason,
        by: Option<Arc<str>>,
    ) {
        self.hand_over(session, |control| {
            if control.forget_session(session, Some(reason)) {
                control.outputs.push_back(Output::Close { session, reason, by });
                control.settle_contest(session);
            }
        });
    }

    /// Forgets a session, inside or waiting, which we close for that reason if there is one;
    /// `false` if there is no such session.
    fn forget_session(&mut self, session: SessionId, why: Option<CloseReason>) -> bool {
        if let Some(waiting) = self.stop_waiting(session) {
            self.remove_room_if_empty(waiting.room);
            return true;
        }
        self.remove_peer(session, why)
    }

    /// The instant that [`Control::now`] stands for.
    pub(crate) fn instant(&self) -> Instant {
        self.origin + std::time::Duration::from_nanos(self.now.as_nanos())
    }
}
