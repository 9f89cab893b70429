//! Statistics: questions to the data cores, and their answers as W3C-like objects.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{
    Command, CoreId, IceState, ProducerId, RtpStreamStats, Stats, StatsQuery, TransportId,
    TransportStats,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::api::{RequestError, Response, SessionId, StatsOf, Token};
use crate::control::{Control, Timer};
use crate::limits::{MAX_STATS_JOBS_PER_PEER, too_many, unknown};
use crate::producer::Producer;
use crate::rtp_parameters::{Kind, RtpParameters};

/// How long the data cores may take. They answer within a turn; one that has died must not keep the
/// others' answers from the client.
const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// Who asks for statistics.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client, for what is its own.
    Client(SessionId, Token),
    /// An administrator, for all of a participant's.
    Administrator {
        /// Of the question.
        token: Token,
        /// The participant's.
        session: SessionId,
    },
}

/// One question, possibly to several cores.
pub(crate) struct StatsJob {
    asker: Asker,
    asked: Vec<(u64, StatsQuery)>,
    /// The answers that have come, in the order of the questions.
    found: Vec<Option<Stats>>,
    missing: usize,
}

impl StatsJob {
    /// Whether an administrator asks.
    pub fn is_administrators(&self) -> bool {
        matches!(self.asker, Asker::Administrator { .. })
    }
}

/// The statistics of one transport or stream. Written as an object by whoever sends it, which need
/// not be the control thread.
pub struct StatsReport {
    /// Unix time, milliseconds.
    timestamp_ms: u64,
    /// Id of the transport, producer or consumer.
    id: String,
    of: Reported,
}

enum Reported {
    Transport {
        ice_state: &'static str,
        dtls_state: &'static str,
        remote: Option<SocketAddr>,
        stats: TransportStats,
    },
    Stream {
        kind: Kind,
        incoming: bool,
        parameters: Arc<RtpParameters>,
        stats: RtpStreamStats,
    },
    Data {
        incoming: bool,
        label: String,
        protocol: String,
        messages: u64,
        bytes: u64,
        buffered: usize,
    },
}

impl Control {
    pub(crate) fn ask_stats(&mut self, session: SessionId, token: Token, of: StatsOf) {
        if let StatsOf::DataProducer(_) | StatsOf::DataConsumer(_) = of {
            let result = self.data_report(session, &of);
            return self.answer(session, token, result.map(|report| Response::Stats(vec![report])));
        }
        let queries = match self.queries(session, &of) {
            Ok(queries) => queries,
            Err(error) => return self.answer(session, token, Err(error)),
        };
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.stats_jobs += 1;
        }
        self.start_stats(Asker::Client(session, token), queries);
    }

    /// Asks the data cores.
    pub(crate) fn start_stats(&mut self, asker: Asker, queries: Vec<(CoreId, StatsQuery)>) {
        let id = self.ids.next();
        let mut asked = Vec::with_capacity(queries.len());
        for (index, (core, of)) in queries.into_iter().enumerate() {
            let query = self.ids.next();
            asked.push((query, of));
            self.stats_queries.insert(query, (id, index));
            self.command(core, Command::QueryStats { token: query, of });
        }
        let missing = asked.len();
        let found = vec![None; missing];
        self.stats_jobs.insert(id, StatsJob { asker, asked, found, missing });
        if missing == 0 {
            return self.finish_stats(id);
        }
        self.timers.set(Timer::Stats(id), self.now + STATS_TIMEOUT);
    }

    fn queries(
        &self,
        session: SessionId,
        of: &StatsOf,
    ) -> Result<Vec<(CoreId, StatsQuery)>, RequestError> {
        let peer = self.peer(session)?;
        if peer.stats_jobs >= MAX_STATS_JOBS_PER_PEER {
            return Err(too_many("questions about statistics at a time", MAX_STATS_JOBS_PER_PEER));
        }
        let one = match of {
            StatsOf::Transport(id) => self.transport_query(self.own_transport(session, id)?),
            StatsOf::Producer(id) => self.producer_query(self.own_producer(session, id)?),
            StatsOf::Consumer(text) => {
                let id = self.ids.number(text).map(opencall_dataplane::message::ConsumerId);
                let own = id.and_then(|id| Some((id, self.consumers.get(&id)?)));
                let own = own.filter(|(_, consumer)| consumer.session == session);
                let (id, consumer) = own.ok_or_else(|| unknown("consumer", text))?;
                Some((consumer.core, StatsQuery::Consumer(id)))
            }
            // Control itself knows these.
            StatsOf::DataProducer(_) | StatsOf::DataConsumer(_) => None,
            StatsOf::Peer => return self.queries_of_peer(session),
        };
        Ok(one.into_iter().collect())
    }

    /// About all that a peer has.
    pub(crate) fn queries_of_peer(
        &self,
        session: SessionId,
    ) -> Result<Vec<(CoreId, StatsQuery)>, RequestError> {
        let peer = self.peer(session)?;
        let transports = peer.transports.iter();
        let producers = peer.producers.iter();
        let consumers = peer.consumers.values();
        let consumers = consumers
            .filter_map(|id| Some((self.consumers.get(id)?.core, StatsQuery::Consumer(*id))));
        Ok(transports
            .filter_map(|id| self.transport_query(*id))
            .chain(producers.filter_map(|id| self.producer_query(*id)))
            .chain(consumers)
            .collect())
    }

    fn transport_query(&self, id: TransportId) -> Option<(CoreId, StatsQuery)> {
        Some((self.transports.get(&id)?.core, StatsQuery::Transport(id)))
    }

    fn producer_query(&self, id: ProducerId) -> Option<(CoreId, StatsQuery)> {
        Some((self.producers.get(&id)?.home(), StatsQuery::Producer(id)))
    }

    pub(crate) fn stats_answered(&mut self, query: u64, stats: Option<Box<Stats>>) {
        let Some((id, index)) = self.stats_queries.remove(&query) else { return };
        let Some(job) = self.stats_jobs.get_mut(&id) else { return };
        job.missing = job.missing.saturating_sub(1);
        if let Some(found) = job.found.get_mut(index) {
            *found = stats.map(|stats| *stats);
        }
        if job.missing == 0 {
            self.finish_stats(id);
        }
    }

    /// Answers with what has come.
    pub(crate) fn finish_stats(&mut self, id: u64) {
        let Some(job) = self.stats_jobs.remove(&id) else { return };
        self.timers.cancel(Timer::Stats(id));
        self.forget_queries(&job);
        let mut reports = Vec::with_capacity(job.found.len());
        for ((_, of), stats) in job.asked.iter().zip(job.found) {
            if let Some(stats) = stats {
                self.report(*of, stats, &mut reports);
            }
        }
        match job.asker {
            Asker::Client(session, token) => {
                if let Some(peer) = self.peers.get_mut(&session) {
                    peer.stats_jobs = peer.stats_jobs.saturating_sub(1);
                }
                self.answer(session, token, Ok(Response::Stats(reports)));
            }
            Asker::Administrator { token, session } => {
                self.describe_participant(token, session, reports);
            }
        }
    }

    fn forget_queries(&mut self, job: &StatsJob) {
        if job.missing > 0 {
            for (query, _) in &job.asked {
                self.stats_queries.remove(query);
            }
        }
    }

    /// A session is gone: its questions too.
    pub(crate) fn drop_stats_jobs(&mut self, session: SessionId) {
        if self.peers.get(&session).is_none_or(|peer| peer.stats_jobs == 0) {
            return;
        }
        let is_its = |asker: Asker| matches!(asker, Asker::Client(whose, _) if whose == session);
        let jobs = self.stats_jobs.iter().filter(|(_, job)| is_its(job.asker));
        for id in jobs.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(job) = self.stats_jobs.remove(&id) {
                self.forget_queries(&job);
            }
            self.timers.cancel(Timer::Stats(id));
        }
    }

    fn report(&self, of: StatsQuery, stats: Stats, reports: &mut Vec<StatsReport>) {
        match (of, stats) {
            (StatsQuery::Transport(id), Stats::Transport(stats)) => {
                reports.push(self.transport_report(id, stats));
            }
            (StatsQuery::Producer(id), Stats::Producer(streams)) => {
                let Some(producer) = self.producers.get(&id) else { return };
                let report = |stats| self.stream_report(id.0, producer, true, stats);
                reports.extend(streams.into_iter().map(report));
            }
            (StatsQuery::Consumer(id), Stats::Consumer(stats)) => {
                let consumer = self.consumers.get(&id);
                let producer = consumer.and_then(|c| self.producers.get(&c.producer));
                let Some(producer) = producer else { return };
                reports.push(self.stream_report(id.0, producer, false, stats));
            }
            _ => {}
        }
    }

    fn stream_report(
        &self,
        id: u64,
        producer: &Producer,
        incoming: bool,
        stats: RtpStreamStats,
    ) -> StatsReport {
        let (kind, parameters) = (producer.kind, Arc::clone(&producer.consumable));
        StatsReport {
            timestamp_ms: self.timestamp_ms(),
            id: self.ids.text(id),
            of: Reported::Stream { kind, incoming, parameters, stats },
        }
    }

    fn data_report(&self, session: SessionId, of: &StatsOf) -> Result<StatsReport, RequestError> {
        let (incoming, text, consumer) = match of {
            StatsOf::DataConsumer(text) => {
                (false, text, Some(self.own_data_consumer(session, text)?))
            }
            StatsOf::DataProducer(text) => (true, text, None),
            _ => return Err(unknown("data producer", "")),
        };
        let consumer = consumer.and_then(|id| self.data.consumers.get(&id));
        let producer = match consumer {
            Some(consumer) => consumer.producer,
            None => self.own_data_producer(session, text)?,
        };
        let producer = self.data.producers.get(&producer);
        let producer = producer.ok_or_else(|| unknown("data producer", text))?;
        let (messages, bytes) = match consumer {
            Some(consumer) => (consumer.messages, consumer.bytes),
            None => (producer.messages, producer.bytes),
        };
        let of = Reported::Data {
            incoming,
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            messages,
            bytes,
            buffered: consumer.map_or(0, |consumer| consumer.queued),
        };
        Ok(StatsReport { timestamp_ms: self.timestamp_ms(), id: text.clone(), of })
    }

    fn transport_report(&self, id: TransportId, stats: TransportStats) -> StatsReport {
        let transport = self.transports.get(&id);
        let ice_state = match transport.and_then(|transport| transport.ice_state) {
            None => "new",
            Some(IceState::Connected) => "connected",
            Some(IceState::Completed) => "completed",
            Some(IceState::Disconnected) => "disconnected",
        };
        let of = Reported::Transport {
            ice_state,
            dtls_state: transport.map_or("closed", |transport| transport.dtls_state.name()),
            remote: stats.remote.or(transport.and_then(|transport| transport.remote)),
            stats,
        };
        StatsReport { timestamp_ms: self.timestamp_ms(), id: self.ids.text(id.0), of }
    }

    fn timestamp_ms(&self) -> u64 {
        self.config.unix_origin_ms.saturating_add(self.now.as_millis())
    }
}

impl Serialize for StatsReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_object().serialize(serializer)
    }
}

impl StatsReport {
    /// As clients read it: a W3C-like object (`{type, id, timestamp, …}`) in mediasoup's words.
    pub fn to_object(&self) -> Map<String, Value> {
        match &self.of {
            Reported::Transport { .. } => self.transport_object(),
            Reported::Stream { .. } => self.stream_object(),
            Reported::Data { .. } => self.data_object(),
        }
    }

    fn transport_object(&self) -> Map<String, Value> {
        let Reported::Transport { ice_state, dtls_state, remote, stats } = &self.of else {
            return Map::new();
        };
        let mut object = object(json!({
            "type": "webrtc-transport",
            "id": self.id,
            "transportId": self.id,
            "timestamp": self.timestamp_ms,
            "iceRole": "controlled",
            "iceState": ice_state,
            "dtlsState": dtls_state,
            "bytesReceived": stats.bytes_received,
            "bytesSent": stats.bytes_sent,
            "recvBitrate": stats.recv_bitrate_bps,
            "sendBitrate": stats.send_bitrate_bps,
            "rtpBytesReceived": stats.rtp_bytes_received,
            "rtpBytesSent": stats.rtp_bytes_sent,
            "rtpPacketsReceived": stats.rtp_packets_received,
            "rtpPacketsSent": stats.rtp_packets_sent,
            "pacerQueueMs": stats.pacer_queue_ms,
        }));
        if let Some(remote) = remote {
            let tuple = json!({
                "protocol": "udp",
                "remoteIp": remote.ip().to_string(),
                "remotePort": remote.port(),
            });
            object.insert("iceSelectedTuple".to_owned(), tuple);
        }
        if let Some(available) = stats.available_outgoing_bps {
            object.insert("availableOutgoingBitrate".to_owned(), available.into());
        }
        if let Some(profile) = stats.srtp_profile {
            object.insert("srtpProfile".to_owned(), profile.into());
        }
        object
    }

    fn data_object(&self) -> Map<String, Value> {
        let Reported::Data { incoming, label, protocol, messages, bytes, buffered } = &self.of
        else {
            return Map::new();
        };
        let common = json!({
            "id": self.id,
            "timestamp": self.timestamp_ms,
            "label": label,
            "protocol": protocol,
        });
        let own = match incoming {
            true => json!({
                "type": "data-producer",
                "messagesReceived": messages,
                "bytesReceived": bytes,
            }),
            false => json!({
                "type": "data-consumer",
                "messagesSent": messages,
                "bytesSent": bytes,
                "bufferedAmount": buffered,
            }),
        };
        object(common).into_iter().chain(object(own)).collect()
    }

    fn stream_object(&self) -> Map<String, Value> {
        let Reported::Stream { kind, incoming, parameters, stats } = &self.of else {
            return Map::new();
        };
        let codec = parameters.codecs.first();
        let clock_rate = codec.map_or(1, |codec| codec.clock_rate.max(1));
        let mut object = object(json!({
            "type": if *incoming { "inbound-rtp" } else { "outbound-rtp" },
            "id": self.id,
            "timestamp": self.timestamp_ms,
            "ssrc": stats.ssrc,
            "kind": kind,
            "mimeType": codec.map(|codec| codec.mime_type.as_str()),
            "packetCount": stats.packets,
            "byteCount": stats.bytes,
            "bitrate": stats.bitrate_bps,
            "packetsLost": stats.packets_lost,
            "fractionLost": stats.fraction_lost,
            "jitter": f64::from(stats.jitter) / f64::from(clock_rate),
            "nackCount": stats.nack_count,
            "nackPacketCount": stats.nack_packet_count,
            "packetsRetransmitted": stats.packets_retransmitted,
            "pliCount": stats.pli_count,
            "firCount": stats.fir_count,
            "keyFrames": stats.key_frames,
            "score": stats.score,
        }));
        let owner = if *incoming { "producerId" } else { "consumerId" };
        object.insert(owner.to_owned(), self.id.clone().into());
        if let Some(ssrc) = stats.rtx_ssrc {
            object.insert("rtxSsrc".to_owned(), ssrc.into());
        }
        if let Some(rid) = &stats.rid {
            object.insert("rid".to_owned(), String::from_utf8_lossy(rid).into());
        }
        if let Some(round_trip_ms) = stats.round_trip_ms {
            object.insert("roundTripTime".to_owned(), f64::from(round_trip_ms).into());
        }
        object
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
