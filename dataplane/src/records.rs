//! What control has told the data cores and what still holds: enough to tell a new core, in the
//! place of one that died, all that the old one knew.
//!
//! [`Records::note`] is called with each command where it leaves for a core. It follows the rules
//! by which [`Core::command`](crate::core::Core::command) obeys: what is closed goes with all that
//! it held, what is changed replaces what was said before, and what is of the moment (datagrams,
//! queries, requests for key frames) is not kept. So the records are never more than what exists.
//!
//! ```text
//! told    CreateTransport 1, CreateConsumer 5, SetPriority 5 9, SetPriority 5 3, CloseConsumer 5
//! kept    transport 1
//! ```
//!
//! What no command says, a core leaves in the [`checkpoint`](crate::checkpoint)s that travel in the
//! configurations: the records hold those as well. Under a supervisor both are in memory that
//! outlives the process ([`crate::calls`]), and the next process begins with them.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use opencall_wire::codec::MediaKind;
use opencall_wire::srtp::KeyingMaterial;

use crate::calls::{CallMemory, Keeper, Told};
use crate::ingress::stream_table::needs_key_frame;
use crate::message::{
    Command, ConsumerConfig, ConsumerId, CoreId, IceCredentials, Origin, PlainLink, ProducerConfig,
    ProducerId, TransportConfig, TransportId,
};
use crate::planted::{self, Bug};

/// The records of all cores.
#[derive(Default)]
pub struct Records {
    cores: BTreeMap<CoreId, CoreRecords>,
    /// Where they outlive the process.
    keeper: Option<Keeper>,
}

/// Of one core.
#[derive(Default)]
struct CoreRecords {
    transports: BTreeMap<TransportId, TransportRecord>,
    producers: BTreeMap<ProducerId, ProducerRecord>,
    consumers: BTreeMap<ConsumerId, ConsumerRecord>,
}

struct TransportRecord {
    /// With the newest budget.
    config: Box<TransportConfig>,
    /// Credentials that came after the first ones and that may be in use: two at most.
    restarts: Vec<IceCredentials>,
    keys: Option<Box<KeyingMaterial>>,
    plain: Option<Box<PlainLink>>,
    producers: BTreeSet<ProducerId>,
    consumers: BTreeSet<ConsumerId>,
}

struct ProducerRecord {
    /// Paused or not, as it was said last.
    config: Box<ProducerConfig>,
    pipes: BTreeSet<CoreId>,
    consumers: BTreeSet<ConsumerId>,
    /// Of the stage: whose packets it is to carry and whose it carries already, as was said last.
    carries: [Option<ProducerId>; 2],
}

struct ConsumerRecord {
    /// Paused or not, and preferred layers, as it was said last.
    config: Box<ConsumerConfig>,
    priority: Option<u8>,
}

/// How much is kept of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Transports.
    pub transports: usize,
    /// Producers, those from other cores included.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
}

impl Records {
    /// Those of the process before, which outlive this one, too.
    pub fn kept(memory: CallMemory, told: Told) -> Self {
        let mut cores = BTreeMap::<CoreId, CoreRecords>::new();
        let keeper = Keeper::open(memory, told, |core, command| match command {
            Some(command) => cores.entry(core).or_default().note(core, &command),
            None => drop(cores.remove(&core)),
        });
        Records { cores, keeper: Some(keeper) }
    }

    /// Where the checkpoints of what is told are made.
    pub fn memory(&self) -> CallMemory {
        self.keeper.as_ref().map(Keeper::memory).cloned().unwrap_or_default()
    }

    /// Whether they are there for the next process.
    pub fn outlive_the_process(&self) -> bool {
        self.keeper.is_some()
    }

    /// Takes note of a command that leaves for a core.
    pub fn note(&mut self, core: CoreId, command: &Command) {
        self.cores.entry(core).or_default().note(core, command);
        self.keep(core, Some(command));
    }

    /// Keeps it for the next process.
    fn keep(&mut self, core: CoreId, command: Option<&Command>) {
        let Some(keeper) = &mut self.keeper else { return };
        if keeper.keep(core, command) {
            return;
        }
        let cores = &self.cores;
        keeper.rewrite(|tell| {
            for (&core, records) in cores {
                records.tell(&mut |command| tell(core, &command));
            }
        });
    }

    /// How much is kept of a core.
    pub fn counts(&self, core: CoreId) -> RecordCounts {
        self.cores.get(&core).map_or_else(RecordCounts::default, |records| RecordCounts {
            transports: records.transports.len(),
            producers: records.producers.len(),
            consumers: records.consumers.len(),
        })
    }

    /// A core is gone.
    pub fn forget(&mut self, core: CoreId) {
        self.cores.remove(&core);
        self.keep(core, None);
    }

    /// Forgets cores that there are not, and pipes to them: what the process before had is not what
    /// this one has.
    pub fn retain(&mut self, is_there: impl Fn(CoreId) -> bool) {
        let gone: Vec<CoreId> =
            self.cores.keys().copied().filter(|core| !is_there(*core)).collect();
        gone.into_iter().for_each(|core| self.forget(core));
        let mut closed = Vec::new();
        for (&core, records) in &self.cores {
            for (&producer, record) in &records.producers {
                let to = record.pipes.iter().copied().filter(|to| !is_there(*to));
                closed.extend(to.map(|to| (core, Command::ClosePipe { producer, to })));
            }
        }
        closed.iter().for_each(|(core, command)| self.note(*core, command));
    }

    /// All transports: on which core, and whose.
    pub fn transports(&self) -> impl Iterator<Item = (CoreId, TransportId, u64)> {
        let of_core = |(&core, records): (&CoreId, &'_ CoreRecords)| {
            let owners = records.transports.iter().map(|(&id, record)| (id, record.config.owner));
            owners.map(move |(id, owner)| (core, id, owner)).collect::<Vec<_>>()
        };
        self.cores.iter().flat_map(of_core)
    }

    /// The commands that end these transports and all that nobody needs then, of what has an id up
    /// to `last_id`: consumers first, and what is elsewhere before what is at home. `rest`:
    /// whatever has no transport, too.
    pub fn closings(
        &self,
        ended: &BTreeSet<TransportId>,
        last_id: u64,
        rest: bool,
    ) -> Vec<(CoreId, Command)> {
        let ends = |record: &ProducerRecord| match record.config.origin {
            Origin::Transport(transport) if !rest => ended.contains(&transport),
            Origin::Stage if !rest => false,
            _ => record.config.id.0 <= last_id,
        };
        let (mut consumers, mut pipes) = (Vec::new(), Vec::new());
        let (mut far, mut home) = (Vec::new(), Vec::new());
        for (&core, records) in &self.cores {
            let of = |id: &ProducerId| records.producers.get(id);
            let is_closed = |record: &ConsumerRecord| {
                ended.contains(&record.config.transport)
                    || of(&record.config.producer).is_some_and(ends)
            };
            let closed = records.consumers.iter();
            let closed = closed.filter(|(_, record)| is_closed(record)).map(|(&id, _)| id);
            let closed: BTreeSet<ConsumerId> = closed.collect();
            consumers.extend(closed.iter().map(|&id| (core, Command::CloseConsumer(id))));
            for (&id, record) in records.producers.iter().filter(|(id, _)| id.0 <= last_id) {
                let at = record.config.home;
                if core != at && (ends(record) || record.consumers.is_subset(&closed)) {
                    let has_pipe = self.cores.get(&at).and_then(|home| home.producers.get(&id));
                    if has_pipe.is_some_and(|home| home.pipes.contains(&core)) {
                        pipes.push((at, Command::ClosePipe { producer: id, to: core }));
                    }
                    far.push((core, Command::CloseProducer(id)));
                } else if core == at && ends(record) {
                    home.push((core, Command::CloseProducer(id)));
                }
            }
        }
        let transports = self.transports().filter(|(_, id, _)| ended.contains(id));
        home.extend(transports.map(|(core, id, _)| (core, Command::CloseTransport(id))));
        consumers.into_iter().chain(pipes).chain(far).chain(home).collect()
    }

    /// The highest of all ids.
    pub fn highest_id(&self) -> u64 {
        let of_core = |records: &CoreRecords| {
            let transport = records.transports.keys().next_back().map(|id| id.0);
            let producer = records.producers.keys().next_back().map(|id| id.0);
            [transport, producer, records.consumers.keys().next_back().map(|id| id.0)]
        };
        self.cores.values().flat_map(of_core).flatten().max().unwrap_or_default()
    }

    /// The commands that make an empty core what `core` was, in order, and with them those to other
    /// cores that open their pipes to it anew. They are in the records already: they need not be
    /// noted again.
    ///
    /// Whatever still says what was said before is of an earlier generation from now on.
    pub fn replay(&mut self, core: CoreId) -> Vec<(CoreId, Command)> {
        let mut commands = Vec::new();
        if let Some(records) = self.cores.get_mut(&core) {
            records.replay(&mut |command| commands.push((core, command)));
        }
        for (&other, records) in self.cores.iter().filter(|&(&other, _)| other != core) {
            let pipes = records.producers.iter().filter(|(_, record)| record.pipes.contains(&core));
            commands.extend(
                pipes.map(|(&producer, _)| (other, Command::OpenPipe { producer, to: core })),
            );
        }
        commands
    }

    /// The commands that make empty cores what all cores of the process before were.
    pub fn replay_all(&mut self) -> Vec<(CoreId, Command)> {
        let mut commands = Vec::new();
        for (&core, records) in &mut self.cores {
            records.replay(&mut |command| commands.push((core, command)));
        }
        commands
    }
}

impl CoreRecords {
    fn note(&mut self, core: CoreId, command: &Command) {
        match command {
            Command::CreateTransport(config) => {
                self.transports.entry(config.id).or_insert_with(|| TransportRecord {
                    config: config.clone(),
                    restarts: Vec::new(),
                    keys: None,
                    plain: None,
                    producers: BTreeSet::new(),
                    consumers: BTreeSet::new(),
                });
            }
            Command::CloseTransport(id) => self.close_transport(*id),
            Command::RestartIce { transport, ice } => {
                if let Some(record) = self.transports.get_mut(transport) {
                    record.restart(ice);
                }
            }
            Command::InstallSrtp { transport, keys } => {
                if let Some(record) = self.transports.get_mut(transport) {
                    record.keys.get_or_insert_with(|| keys.clone());
                }
            }
            Command::ConnectPlain { transport, link } => {
                if let Some(record) = self.transports.get_mut(transport) {
                    record.plain.get_or_insert_with(|| link.clone());
                }
            }
            Command::SetOutgoingBitrate { transport, bitrate_bps } => {
                if let Some(record) = self.transports.get_mut(transport) {
                    record.config.outgoing_bitrate_bps = *bitrate_bps;
                }
            }
            Command::SendDtls { .. }
            | Command::ProveTuple { .. }
            | Command::AttachLink { .. }
            | Command::DetachLink(_)
            | Command::RequestKeyFrame(_)
            | Command::QueryStats { .. }
            | Command::Shutdown => {}
            other => self.note_media(core, other),
        }
    }

    /// Of producers and consumers.
    fn note_media(&mut self, core: CoreId, command: &Command) {
        match command {
            Command::CreateProducer(config) => self.create_producer(core, config),
            Command::CloseProducer(id) => self.close_producer(*id),
            Command::PauseProducer(id) => self.pause_producer(*id, true),
            Command::ResumeProducer(id) => self.pause_producer(*id, false),
            Command::OpenPipe { producer, to } => {
                if let Some(record) = self.producers.get_mut(producer).filter(|_| *to != core) {
                    record.pipes.insert(*to);
                }
            }
            Command::ClosePipe { producer, to } => {
                if let Some(record) = self.producers.get_mut(producer) {
                    record.pipes.remove(to);
                }
            }
            &Command::SetStage { stage, source, shown } => {
                if let Some(record) = self.producers.get_mut(&stage) {
                    record.carries = [source, shown];
                }
            }
            Command::MoveStage { stage, home } => {
                if let Some(record) = self.producers.get_mut(stage) {
                    record.config.home = *home;
                }
            }
            Command::CreateConsumer(config) => self.create_consumer(config),
            Command::CloseConsumer(id) => self.close_consumer(*id),
            Command::PauseConsumer(id) => self.change(*id, |of| of.config.paused = true),
            Command::ResumeConsumer(id) => self.change(*id, |of| of.config.paused = false),
            Command::SetPreferredLayers { consumer, layers } => {
                self.change(*consumer, |of| of.config.preferred_layers = Some(*layers));
            }
            Command::SetPriority { consumer, priority } => {
                self.change(*consumer, |of| of.priority = Some(*priority));
            }
            _ => {}
        }
    }

    fn close_transport(&mut self, id: TransportId) {
        let Some(record) = self.transports.remove(&id) else { return };
        for consumer in record.consumers {
            self.close_consumer(consumer);
        }
        for producer in record.producers {
            self.close_producer(producer);
        }
    }

    fn create_producer(&mut self, core: CoreId, config: &ProducerConfig) {
        if self.producers.contains_key(&config.id) {
            return;
        }
        if let Origin::Transport(transport) = config.origin
            && config.home == core
        {
            let Some(transport) = self.transports.get_mut(&transport) else { return };
            transport.producers.insert(config.id);
        }
        let config = Box::new(config.clone());
        let (pipes, consumers) = (BTreeSet::new(), BTreeSet::new());
        let carries = [None; 2];
        self.producers.insert(config.id, ProducerRecord { config, pipes, consumers, carries });
    }

    fn close_producer(&mut self, id: ProducerId) {
        let Some(record) = self.producers.remove(&id) else { return };
        for consumer in record.consumers {
            self.close_consumer(consumer);
        }
        if let Origin::Transport(transport) = record.config.origin
            && let Some(transport) = self.transports.get_mut(&transport)
        {
            transport.producers.remove(&id);
        }
    }

    fn pause_producer(&mut self, id: ProducerId, paused: bool) {
        if let Some(record) = self.producers.get_mut(&id) {
            record.config.paused = paused;
        }
    }

    fn create_consumer(&mut self, config: &ConsumerConfig) {
        if self.consumers.contains_key(&config.id) {
            return;
        }
        let transport = self.transports.get_mut(&config.transport);
        let producer = self.producers.get_mut(&config.producer);
        let (Some(transport), Some(producer)) = (transport, producer) else { return };
        transport.consumers.insert(config.id);
        producer.consumers.insert(config.id);
        let record = ConsumerRecord { config: Box::new(config.clone()), priority: None };
        self.consumers.insert(config.id, record);
    }

    fn close_consumer(&mut self, id: ConsumerId) {
        if id.0.is_multiple_of(4) && planted::is(Bug::RecordKept) {
            return;
        }
        let Some(record) = self.consumers.remove(&id) else { return };
        if let Some(transport) = self.transports.get_mut(&record.config.transport) {
            transport.consumers.remove(&id);
        }
        if let Some(producer) = self.producers.get_mut(&record.config.producer) {
            producer.consumers.remove(&id);
        }
    }

    fn change(&mut self, id: ConsumerId, change: impl FnOnce(&mut ConsumerRecord)) {
        if let Some(record) = self.consumers.get_mut(&id) {
            change(record);
        }
    }

    /// Tells another core what this one knew. What numbers it used is the other's from now on.
    fn replay(&mut self, tell: &mut impl FnMut(Command)) {
        self.transports.values_mut().for_each(|record| record.config.checkpoint.renew());
        self.consumers.values_mut().for_each(|record| record.config.checkpoint.renew());
        self.tell(tell);
        for (&id, record) in &self.consumers {
            if !record.config.paused && self.has_key_frames(record.config.producer) {
                tell(Command::RequestKeyFrame(id));
            }
        }
    }

    /// Transports first, for whoever sends is to be heard soonest; key frames are requested when
    /// all is there.
    fn tell(&self, tell: &mut impl FnMut(Command)) {
        for (&transport, record) in &self.transports {
            tell(Command::CreateTransport(record.config.clone()));
            for ice in record.restarts.iter().cloned() {
                tell(Command::RestartIce { transport, ice });
            }
            if let Some(keys) = record.keys.clone() {
                tell(Command::InstallSrtp { transport, keys });
            }
            if let Some(link) = record.plain.clone() {
                tell(Command::ConnectPlain { transport, link });
            }
        }
        for (&producer, record) in &self.producers {
            tell(Command::CreateProducer(record.config.clone()));
            for &to in &record.pipes {
                tell(Command::OpenPipe { producer, to });
            }
        }
        for (&stage, record) in &self.producers {
            let [source, shown] =
                record.carries.map(|carried| carried.filter(|id| self.producers.contains_key(id)));
            if let Some(source) = source.or(shown) {
                tell(Command::SetStage { stage, source: Some(source), shown });
            }
        }
        for (&consumer, record) in &self.consumers {
            tell(Command::CreateConsumer(record.config.clone()));
            if let Some(priority) = record.priority {
                tell(Command::SetPriority { consumer, priority });
            }
        }
    }

    fn has_key_frames(&self, producer: ProducerId) -> bool {
        let config = self.producers.get(&producer).map(|record| &record.config);
        config.is_some_and(|config| {
            config.kind == MediaKind::Video
                && config.payload_types.iter().any(|of| needs_key_frame(of.codec))
        })
    }
}

impl TransportRecord {
    /// Keeps of the credentials those that the client's checks carry, and the newest: what came
    /// between was replaced before the client used it.
    fn restart(&mut self, ice: &IceCredentials) {
        let used = self.config.checkpoint.place().ufrag;
        self.restarts.retain(|kept| Some(&kept.ufrag) == used.as_ref());
        self.restarts.push(ice.clone());
    }
}
