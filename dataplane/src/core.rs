//! The sans-IO machine of one data core: what it knows, and what control may change of it.
//!
//! [`Core::turn`] is what it does between two looks at its sockets.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use opencall_io::{RxBatch, TurnReport, TxBatch};
use opencall_wire::srtp::KeyingMaterial;
use opencall_wire::time::{Time, WallClock};

use crate::address_table::{AddressTable, Owner};
use crate::backlog::Backlog;
use crate::checkpoint::{Place, Suspect};
use crate::congestion::Scratch;
use crate::drop_reason::DropReason;
use crate::egress::consumer::{Consumer, takes_red};
use crate::fanout::links::Links;
use crate::fanout::{Gathered, PacketRef, Subscription};
use crate::ice::agent::Tuple;
use crate::ingress::producer::Producer;
use crate::ingress::stream_table::StreamRef;
use crate::message::{
    Command, ConsumerConfig, ConsumerId, CoreId, CoreStats, Event, IceCredentials, Origin,
    ProducerConfig, ProducerId, TransportConfig, TransportId,
};
use crate::overload::Overload;
use crate::planted::{self, Bug};
use crate::rate::{Evenly, PerSecond};
use crate::store::{ConsumerKey, ProducerKey, Store, TransportKey};
use crate::timers::Timers;
use crate::transport::{REPORT_INTERVAL, Srtp, Transport};

/// What a core needs to begin.
pub struct CoreConfig {
    /// Its index.
    pub id: CoreId,
    /// Ties the monotonic clock to the wall clock.
    pub clock: WallClock,
    /// Seed for SSRCs and first sequence numbers; none of them is a secret.
    pub seed: u64,
    /// Rings to the other cores.
    pub links: Links,
}

/// Finds things by what commands and packets call them.
#[derive(Default)]
pub(crate) struct Index {
    pub transports: HashMap<TransportId, TransportKey, RandomState>,
    pub producers: HashMap<ProducerId, ProducerKey, RandomState>,
    pub consumers: HashMap<ConsumerId, ConsumerKey, RandomState>,
    pub ufrags: HashMap<String, TransportKey, RandomState>,
    pub addresses: AddressTable,
    /// The transports without ICE whose clients are known by these SSRCs alone.
    pub awaited: HashMap<u32, TransportKey, RandomState>,
    /// Who was let in last because it may be one of those, and has still to prove it.
    pub guest: Option<(Tuple, Owner)>,
}

/// No datagram and no packet of a turn has this index.
pub(crate) const NOTHING: u16 = u16::MAX;

/// Bytes of a suspect datagram that are kept: headers, whatever it is.
const SUSPECT_HEAD_BYTES: usize = 64;

/// What one turn has taken up.
pub(crate) struct Turn {
    /// Index of the datagram that is being taken up.
    pub taking: u16,
    /// Index of the gathered packet that is being sent.
    pub sending: u16,
    pub gathered: Vec<Gathered>,
    /// The transports with pending packets.
    pub touched: Vec<TransportKey>,
    /// How many of them the scatter phase has done.
    pub scattered: usize,
    pub key_frames: Vec<(ProducerKey, u8)>,
    /// The transports whose waiting DTLS may go.
    pub stale_dtls: Vec<TransportKey>,
    pub stale_allocations: Vec<TransportKey>,
    /// The producers whose consumers want other encodings than before.
    pub stale_demands: Vec<ProducerKey>,
}

impl Default for Turn {
    fn default() -> Self {
        Turn {
            taking: NOTHING,
            sending: NOTHING,
            gathered: Vec::new(),
            touched: Vec::new(),
            scattered: 0,
            key_frames: Vec::new(),
            stale_dtls: Vec::new(),
            stale_allocations: Vec::new(),
            stale_demands: Vec::new(),
        }
    }
}

/// One data core.
pub struct Core {
    pub(crate) id: CoreId,
    pub(crate) clock: WallClock,
    pub(crate) transports: Store<Transport>,
    pub(crate) producers: Store<Producer>,
    pub(crate) consumers: Store<Consumer>,
    pub(crate) index: Index,
    pub(crate) turn: Turn,
    pub(crate) links: Links,
    pub(crate) timers: Timers,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: CoreStats,
    /// Forwarded packets whose delay is in the statistics.
    delays_counted: u64,
    /// DTLS beyond what each transport is sure of.
    pub(crate) spare_dtls: PerSecond,
    /// Datagrams of data channels of all transports together.
    pub(crate) data_records: Evenly,
    /// Whose datagrams are dropped unseen.
    pub(crate) quarantine: Vec<SocketAddr>,
    /// Room for one feedback, for the estimators of all transports.
    pub(crate) scratch: Scratch,
    /// A probe of some transport is out until then.
    pub(crate) feedback_awaited_until: Time,
    pub(crate) overload: Overload,
    pub(crate) backlog: Backlog,
    random: u64,
}

impl Core {
    /// A core with nothing on it.
    pub fn new(config: CoreConfig) -> Self {
        Core {
            id: config.id,
            clock: config.clock,
            transports: Store::default(),
            producers: Store::default(),
            consumers: Store::default(),
            index: Index::default(),
            turn: Turn::default(),
            links: config.links,
            timers: Timers::default(),
            events: VecDeque::new(),
            stats: CoreStats::default(),
            delays_counted: 0,
            spare_dtls: PerSecond::default(),
            data_records: Evenly::default(),
            quarantine: Vec::new(),
            scratch: Scratch::default(),
            feedback_awaited_until: Time::ZERO,
            overload: Overload::default(),
            backlog: Backlog::default(),
            random: config.seed | 1,
        }
    }

    /// Drops from now on what comes from there: it has killed cores before this one.
    pub fn quarantine(&mut self, source: SocketAddr) {
        self.quarantine.push(source);
    }

    /// The datagram that this core had in hand when it died in a turn with `rx`.
    pub fn suspect(&self, rx: &RxBatch) -> Option<Suspect> {
        let index = match self.turn.taking {
            NOTHING => match self.turn.gathered.get(usize::from(self.turn.sending))?.bytes {
                PacketRef::Received(index) => index,
                PacketRef::Piped { .. } => return None,
            },
            taking => taking,
        };
        let index = usize::from(index);
        if index >= rx.len() {
            return None;
        }
        let (source, socket) = (rx.datagram(index).source, rx.datagram(index).socket);
        let owner = self.index.addresses.owner((source, socket));
        let transport = owner.and_then(|owner| self.transports.get(owner.transport()));
        let bytes = rx.bytes(index);
        Some(Suspect {
            source,
            socket,
            transport: transport.map(|transport| transport.id),
            len: bytes.len(),
            head: bytes[..bytes.len().min(SUSPECT_HEAD_BYTES)].to_vec(),
        })
    }

    /// The core's index.
    pub fn id(&self) -> CoreId {
        self.id
    }

    /// The next event for control.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Core::poll_event`] has something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Adds what the I/O seam saw in a turn to the counters.
    pub fn count_turn(&mut self, report: &TurnReport) {
        self.stats.datagrams_sent += u64::from(report.sent_datagrams);
        self.stats.trains_sent += u64::from(report.sent_trains);
        self.stats.send_calls += u64::from(report.send_calls);
        self.stats.drops.count_n(DropReason::SendFailed, u64::from(report.send_failed));
    }

    /// What was forwarded since the last call is handed to the kernel, so long after its batch was
    /// read.
    pub fn count_delays(&mut self, delay: Duration) {
        let forwarded = self.stats.packets_forwarded - self.delays_counted;
        if forwarded > 0 {
            self.delays_counted = self.stats.packets_forwarded;
            self.stats.forward_delays.note(delay, forwarded);
        }
    }

    /// When the next [`Core::turn`] is due if nothing arrives.
    pub fn next_timeout(&self) -> Time {
        self.timers.next()
    }

    /// The rings to other cores.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// The core's counters.
    pub fn stats(&self) -> &CoreStats {
        &self.stats
    }

    /// Does what control says; datagrams of DTLS are written to `tx`. Commands for ids that are
    /// gone are ignored, and so is making what exists.
    pub fn command(&mut self, now: Time, command: Command, tx: &mut TxBatch) {
        match command {
            Command::CreateTransport(config) => self.create_transport(now, &config),
            Command::RestartIce { transport, ice } => self.restart_ice(transport, ice),
            Command::CloseTransport(id) => self.close_transport(id),
            Command::SendDtls { transport, datagram } => self.send_dtls(transport, &datagram, tx),
            Command::ProveTuple { transport, tuple } => self.prove_tuple(now, transport, tuple),
            // For whoever drives the core: see `Core::turn`.
            Command::Shutdown => {}
            Command::InstallSrtp { transport, keys } => self.install_srtp(now, transport, &keys),
            Command::ConnectPlain { transport, link } => {
                self.connect_plain(now, transport, &link);
            }
            Command::SetOutgoingBitrate { transport, bitrate_bps } => {
                if let Some(&key) = self.index.transports.get(&transport) {
                    self.set_outgoing_bitrate(now, key, bitrate_bps);
                }
            }
            Command::CreateProducer(config) => self.create_producer(now, &config),
            Command::CloseProducer(id) => self.close_producer(id),
            Command::PauseProducer(id) => self.set_producer_paused(now, id, true),
            Command::ResumeProducer(id) => self.set_producer_paused(now, id, false),
            Command::AttachLink { to, link } => self.links.attach(to, *link),
            Command::DetachLink(core) => self.links.detach(core),
            Command::OpenPipe { producer, to } => self.open_pipe(producer, to),
            Command::ClosePipe { producer, to } => {
                if let Some(&key) = self.index.producers.get(&producer) {
                    self.producers[key].pipes.retain(|core| *core != to);
                }
            }
            Command::SetStage { stage, source, shown } => {
                self.set_stage(now, stage, [source, shown])
            }
            Command::MoveStage { stage, home } => self.move_stage(stage, home),
            Command::CreateConsumer(config) => self.create_consumer(now, &config),
            Command::CloseConsumer(id) => self.close_consumer(id),
            Command::PauseConsumer(id) => self.set_consumer_paused(id, true),
            Command::ResumeConsumer(id) => self.set_consumer_paused(id, false),
            Command::SetPreferredLayers { consumer, layers } => {
                self.update_consumer(consumer, |consumer| consumer.layers.prefer(layers));
            }
            Command::SetPriority { consumer, priority } => {
                self.update_consumer(consumer, |consumer| consumer.priority = priority.max(1));
            }
            Command::RequestKeyFrame(id) => {
                if let Some(&key) = self.index.consumers.get(&id) {
                    self.request_key_frame_for(now, key);
                }
            }
            Command::QueryStats { token, of } => {
                let stats = self.query(now, of).map(Box::new);
                self.events.push_back(Event::Stats { token, stats });
            }
        }
    }

    fn create_transport(&mut self, now: Time, config: &TransportConfig) {
        if self.index.transports.contains_key(&config.id) {
            return;
        }
        let local_ssrc = self.random_u32();
        let transport = Transport::new(now, config, local_ssrc);
        let key = self.transports.insert(transport);
        self.index.transports.insert(config.id, key);
        self.index.ufrags.insert(config.ice.ufrag.clone(), key);
        self.resume_transport(now, key, &config.checkpoint.take_place());
        self.reschedule(now, key);
    }

    /// Goes on where a core before had found a transport's client.
    fn resume_transport(&mut self, now: Time, key: TransportKey, place: &Place) {
        let answered = place.answered.filter(|tuple| self.index.addresses.owner(*tuple).is_none());
        let Some(found) = place.destination.or(answered) else { return };
        if planted::is(Bug::PlaceForgotten) {
            return;
        }
        let proven = place.destination.is_some();
        self.transports[key].resume(now, found, proven);
        self.index.addresses.insert(found, Owner::new(key, proven));
        let claimant = place.claimant.filter(|tuple| self.index.addresses.owner(*tuple).is_none());
        if let Some(claimant) = claimant {
            self.transports[key].resume_claimant(now, claimant);
            self.index.addresses.insert(claimant, Owner::new(key, false));
        }
        self.report_ice(key);
    }

    fn restart_ice(&mut self, transport: TransportId, ice: IceCredentials) {
        let Some(&key) = self.index.transports.get(&transport) else { return };
        // A restart during a restart: only the newest two sets of credentials live.
        let agent = &mut self.transports[key].ice;
        if let Some(retired) = agent.restart(ice) {
            self.index.ufrags.remove(&retired);
        }
        for ufrag in agent.ufrags() {
            self.index.ufrags.insert(ufrag.to_owned(), key);
        }
        let transport = &mut self.transports[key];
        let used = transport.checkpoint.place().ufrag;
        if let Some(retired) = used.and_then(|ufrag| transport.ice.resume_restart(&ufrag)) {
            self.index.ufrags.remove(&retired);
        }
    }

    fn close_transport(&mut self, id: TransportId) {
        let Some(key) = self.index.transports.remove(&id) else { return };
        while let Some(&consumer) = self.transports[key].consumers.last() {
            self.remove_consumer(consumer);
        }
        while let Some(&producer) = self.transports[key].producers.last() {
            self.remove_producer(producer);
        }
        // By its own names and addresses: a search of all would make closing many take forever.
        let transport = self.transports.remove(key);
        if transport.plain.is_some() {
            self.index.awaited.retain(|_, awaiting| *awaiting != key);
            self.dismiss_guest();
        }
        let rtcp = transport.plain.as_ref().and_then(|plain| plain.rtcp());
        for tuple in transport.ice.tuples().chain(rtcp) {
            self.index.addresses.remove_of(tuple, key);
        }
        for ufrag in transport.ice.ufrags() {
            if self.index.ufrags.get(ufrag) == Some(&key) && !planted::is(Bug::UfragKept) {
                self.index.ufrags.remove(ufrag);
            }
        }
    }

    fn install_srtp(&mut self, now: Time, id: TransportId, keys: &KeyingMaterial) {
        let Some(&key) = self.index.transports.get(&id) else { return };
        if self.transports[key].srtp.is_some() {
            // A transport has one DTLS association in its life. The same keys once more would begin
            // the SRTCP indexes anew, and a nonce must never protect two different packets.
            return;
        }
        let (Ok(mut open), Ok(mut seal)) = (keys.open_context(), keys.seal_context()) else {
            tracing::error!(?id, "SRTP keys of a wrong length: the transport stays without keys");
            return;
        };
        let checkpoint = &self.transports[key].checkpoint;
        open.take_over(Arc::clone(&checkpoint.srtp));
        seal.take_over(Arc::clone(&checkpoint.srtp), checkpoint.generation());
        self.transports[key].srtp = Some(Srtp { open, seal });
        self.transports[key].report_due = now + REPORT_INTERVAL;
        self.on_handshake_complete(now, key);
        if let Some(path) = &mut self.transports[key].path {
            path.estimator.start(now);
        }
        self.reschedule(now, key);
        self.request_key_frames_of(now, key);
    }

    /// Asks for the key frames that a transport's consumers wait for.
    pub(crate) fn request_key_frames_of(&mut self, now: Time, key: TransportKey) {
        for index in 0..self.transports[key].consumers.len() {
            self.request_key_frame_for(now, self.transports[key].consumers[index]);
        }
    }

    fn create_producer(&mut self, now: Time, config: &ProducerConfig) {
        if self.index.producers.contains_key(&config.id) {
            return;
        }
        let home = match config.origin {
            Origin::Transport(transport) if config.home == self.id => {
                match self.index.transports.get(&transport) {
                    Some(&transport) => Some(transport),
                    None => return,
                }
            }
            _ => None,
        };
        let key = self.producers.insert(Producer::new(config, home));
        if config.origin == Origin::Stage && config.home == self.id {
            self.producers[key].enter_stage();
        }
        self.index.producers.insert(config.id, key);
        let Some(transport_key) = home else { return };
        let announced = config.encodings.iter().flat_map(|e| [e.ssrc, e.rtx_ssrc]);
        for ssrc in announced.flatten() {
            if let Some(stream) = self.transports[transport_key].streams.known(ssrc) {
                self.leave_stream(now, transport_key, ssrc, stream);
            }
        }
        let transport = &mut self.transports[transport_key];
        transport.streams.add(key, config);
        transport.producers.push(key);
        transport.incoming_extensions.merge(&config.extensions);
        transport.sends_transport_cc |= config.feedback.transport_cc;
        if let Some(ssrc) = config.encodings.iter().find_map(|encoding| encoding.ssrc) {
            transport.media_ssrc = ssrc;
        }
        self.await_ssrcs(transport_key);
        for (ssrc, encoding, rtx) in self.producers[key].resume() {
            let stream = StreamRef { producer: key, encoding, rtx };
            self.transports[transport_key].streams.learn(ssrc, stream);
        }
        self.reschedule(now, transport_key);
    }

    fn close_producer(&mut self, id: ProducerId) {
        if let Some(&key) = self.index.producers.get(&id) {
            self.remove_producer(key);
        }
    }

    fn remove_producer(&mut self, key: ProducerKey) {
        let producer = self.producers.remove(key);
        self.index.producers.remove(&producer.id);
        self.forget_on_stage(key, &producer);
        for subscription in &producer.subscriptions {
            self.forget_consumer(subscription.consumer);
        }
        if let Some(transport_key) = producer.transport {
            let transport = &mut self.transports[transport_key];
            let (srtp, awaited) = (&mut transport.srtp, &mut self.index.awaited);
            transport.streams.remove(key, |ssrc| {
                if let Some(srtp) = srtp {
                    srtp.open.retire(ssrc);
                }
                if awaited.get(&ssrc) == Some(&transport_key) {
                    awaited.remove(&ssrc);
                }
            });
            transport.producers.retain(|producer| *producer != key);
        }
    }

    fn set_producer_paused(&mut self, now: Time, id: ProducerId, paused: bool) {
        let Some(&key) = self.index.producers.get(&id) else { return };
        self.producers[key].paused = paused;
        if paused {
            return;
        }
        for index in 0..self.producers[key].subscriptions.len() {
            let consumer = self.producers[key].subscriptions[index].consumer;
            self.consumers[consumer].layers.restart();
            self.refresh_subscription(consumer);
            self.request_key_frame_for(now, consumer);
        }
    }

    fn open_pipe(&mut self, id: ProducerId, to: CoreId) {
        let Some(&key) = self.index.producers.get(&id) else { return };
        let producer = &mut self.producers[key];
        if to == self.id {
            return;
        }
        // One that is open is opened again when the core at its far end was replaced.
        if !producer.pipes.contains(&to) {
            producer.pipes.push(to);
        }
        // The far end has no sender report yet; it needs them for lip-sync and layer switches.
        for index in 0..self.producers[key].encodings.len() {
            self.pipe_source(key, index);
        }
    }

    fn create_consumer(&mut self, now: Time, config: &ConsumerConfig) {
        if self.index.consumers.contains_key(&config.id) {
            return;
        }
        let (Some(&transport), Some(&producer)) = (
            self.index.transports.get(&config.transport),
            self.index.producers.get(&config.producer),
        ) else {
            return;
        };
        // RFC 3550 section 5.1: random to begin with; RFC 3711 section 3.3.1: in the lower half, so
        // that a first packet lost does not let the client guess the roll-over counter wrong.
        let first = ((self.random_u32() & 0x7fff) as u16, self.random_u32());
        let source = &mut self.producers[producer];
        if config.feedback.nack || takes_red(config, source.kind) {
            source.keep_history();
        }
        let consumer = Consumer::new(now, config, source, producer, transport, first);
        let is_told = config.feedback.transport_cc && consumer.numbers_transport();
        let key = self.consumers.insert(consumer);
        self.index.consumers.insert(config.id, key);
        self.consumers[key].subscription = source.subscriptions.len() as u32;
        source.subscriptions.push(Subscription {
            consumer: key,
            transport,
            encodings: 0,
            wanted: 0,
        });
        self.transports[transport].consumers.push(key);
        self.transports[transport].outgoing_ssrcs.insert(config.ssrc, key);
        if is_told {
            self.estimate_path(now, transport, &config.extensions);
        }
        self.refresh_subscription(key);
        self.share_out_later(transport);
        self.reschedule(now, transport);
    }

    fn close_consumer(&mut self, id: ConsumerId) {
        if let Some(&key) = self.index.consumers.get(&id) {
            self.remove_consumer(key);
        }
    }

    fn remove_consumer(&mut self, key: ConsumerKey) {
        let Consumer { producer, subscription, .. } = self.consumers[key];
        let subscriptions = &mut self.producers[producer].subscriptions;
        subscriptions.swap_remove(subscription as usize);
        if let Some(moved) = subscriptions.get(subscription as usize) {
            self.consumers[moved.consumer].subscription = subscription;
        }
        self.forget_consumer(key);
        self.count_demand_later(producer);
    }

    /// Removes a consumer whose producer no longer lists it.
    fn forget_consumer(&mut self, key: ConsumerKey) {
        let consumer = self.consumers.remove(key);
        self.index.consumers.remove(&consumer.id);
        let transport = &mut self.transports[consumer.transport];
        // From the end, for a transport that closes gives up its last one first.
        if let Some(index) = transport.consumers.iter().rposition(|other| *other == key) {
            transport.consumers.remove(index);
        }
        transport.outgoing_ssrcs.remove(&consumer.ssrc);
        if let Some(waiting) = transport.waiting_mut() {
            waiting.forget(key);
        }
    }

    fn set_consumer_paused(&mut self, id: ConsumerId, paused: bool) {
        if paused && planted::is(Bug::PauseIgnored)
            || !paused && id.0.is_multiple_of(4) && planted::is(Bug::ResumeLost)
        {
            return;
        }
        self.update_consumer(id, |consumer| {
            consumer.paused = paused;
            consumer.layers.restart();
        });
    }

    /// Changes a consumer, then has its transport's budget shared out anew, which asks for the key
    /// frame that this takes.
    fn update_consumer(&mut self, id: ConsumerId, change: impl FnOnce(&mut Consumer)) {
        let Some(&key) = self.index.consumers.get(&id) else { return };
        change(&mut self.consumers[key]);
        self.refresh_subscription(key);
        self.share_out_later(self.consumers[key].transport);
    }

    /// Copies what a consumer may forward now, and what it would take, into its producer's list.
    pub(crate) fn refresh_subscription(&mut self, consumer: ConsumerKey) {
        let state = &self.consumers[consumer];
        let (encodings, wanted) = (state.wanted_encodings(), state.wanted_count());
        let (producer, subscription) = (state.producer, state.subscription);
        let subscriptions = &mut self.producers[producer].subscriptions;
        let Some(entry) = subscriptions.get_mut(subscription as usize) else { return };
        entry.encodings = encodings;
        if std::mem::replace(&mut entry.wanted, wanted) != wanted {
            self.count_demand_later(producer);
        }
    }

    /// Not secret, just different each time (xorshift64*).
    pub(crate) fn random_u32(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}
