//! Statistics: questions to the data cores, and their answers as W3C-like objects.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_dataplane::message::{
    Command, CoreId, IceState, ProducerId, RtpStreamStats, Stats, StatsQuery, TransportStats,
};
use serde_json::{Map, Value, json};

use crate::api::{RequestError, Response, SessionId, StatsOf, Token};
use crate::control::{Control, Timer};
use crate::limits::{MAX_STATS_JOBS_PER_PEER, too_many, unknown};
use crate::rtp_parameters::{Kind, RtpParameters};

/// How long the data cores may take. They answer within a turn; one that has died must not keep the
/// others' answers from the client.
const STATS_TIMEOUT: Duration = Duration::from_secs(2);

/// One question of a client, possibly to several cores.
pub(crate) struct StatsJob {
    session: SessionId,
    token: Token,
    /// Answers still missing.
    missing: Vec<u64>,
    /// What has come, by query, so that the order is that of the questions.
    found: Vec<(u64, StatsQuery, Stats)>,
    asked: Vec<(u64, StatsQuery)>,
}

impl Control {
    pub(crate) fn ask_stats(&mut self, session: SessionId, token: Token, of: StatsOf) {
        let queries = match self.queries(session, &of) {
            Ok(queries) => queries,
            Err(error) => return self.answer(session, token, Err(error)),
        };
        if queries.is_empty() {
            return self.answer(session, token, Ok(Response::Stats(Vec::new())));
        }
        let id = self.ids.next();
        let mut asked = Vec::with_capacity(queries.len());
        for (core, of) in queries {
            let query = self.ids.next();
            asked.push((query, of));
            self.stats_queries.insert(query, id);
            self.command(core, Command::QueryStats { token: query, of });
        }
        let missing = asked.iter().map(|(query, _)| *query).collect();
        let job = StatsJob { session, token, missing, found: Vec::new(), asked };
        self.stats_jobs.insert(id, job);
        self.timers.set(Timer::Stats(id), self.now + STATS_TIMEOUT);
        if let Some(peer) = self.peers.get_mut(&session) {
            peer.stats_jobs += 1;
        }
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
            StatsOf::Peer => {
                let transports = peer.transports.iter();
                let producers = peer.producers.iter();
                let consumers = peer.consumers.values().filter_map(|id| {
                    Some((self.consumers.get(id)?.core, StatsQuery::Consumer(*id)))
                });
                return Ok(transports
                    .filter_map(|id| self.transport_query(*id))
                    .chain(producers.filter_map(|id| self.producer_query(*id)))
                    .chain(consumers)
                    .collect());
            }
        };
        Ok(one.into_iter().collect())
    }

    fn transport_query(
        &self,
        id: opencall_dataplane::message::TransportId,
    ) -> Option<(CoreId, StatsQuery)> {
        Some((self.transports.get(&id)?.core, StatsQuery::Transport(id)))
    }

    fn producer_query(&self, id: ProducerId) -> Option<(CoreId, StatsQuery)> {
        Some((self.producers.get(&id)?.home(), StatsQuery::Producer(id)))
    }

    pub(crate) fn stats_answered(&mut self, query: u64, stats: Option<Box<Stats>>) {
        let Some(id) = self.stats_queries.remove(&query) else { return };
        let Some(job) = self.stats_jobs.get_mut(&id) else { return };
        job.missing.retain(|missing| *missing != query);
        let of = job.asked.iter().find(|(asked, _)| *asked == query).map(|(_, of)| *of);
        if let (Some(of), Some(stats)) = (of, stats) {
            job.found.push((query, of, *stats));
        }
        if job.missing.is_empty() {
            self.finish_stats(id);
        }
    }

    /// Answers with what has come.
    pub(crate) fn finish_stats(&mut self, id: u64) {
        let Some(mut job) = self.stats_jobs.remove(&id) else { return };
        self.timers.cancel(Timer::Stats(id));
        for query in &job.missing {
            self.stats_queries.remove(query);
        }
        if let Some(peer) = self.peers.get_mut(&job.session) {
            peer.stats_jobs = peer.stats_jobs.saturating_sub(1);
        }
        job.found.sort_by_key(|(query, ..)| *query);
        let objects =
            job.found.iter().flat_map(|(_, of, stats)| self.objects(*of, stats)).collect();
        self.answer(job.session, job.token, Ok(Response::Stats(objects)));
    }

    /// A session is gone: its questions too.
    pub(crate) fn drop_stats_jobs(&mut self, session: SessionId) {
        let jobs = self.stats_jobs.iter().filter(|(_, job)| job.session == session);
        for id in jobs.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(job) = self.stats_jobs.remove(&id) {
                for query in job.missing {
                    self.stats_queries.remove(&query);
                }
            }
            self.timers.cancel(Timer::Stats(id));
        }
    }

    fn objects(&self, of: StatsQuery, stats: &Stats) -> Vec<Map<String, Value>> {
        match (of, stats) {
            (StatsQuery::Transport(id), Stats::Transport(stats)) => {
                vec![self.transport_object(id, stats)]
            }
            (StatsQuery::Producer(id), Stats::Producer(streams)) => {
                let Some(producer) = self.producers.get(&id) else { return Vec::new() };
                let about = Stream {
                    id: self.ids.text(id.0),
                    kind: producer.kind,
                    parameters: &producer.consumable,
                    incoming: true,
                };
                streams.iter().map(|stream| self.stream_object(&about, stream)).collect()
            }
            (StatsQuery::Consumer(id), Stats::Consumer(stream)) => {
                let Some(consumer) = self.consumers.get(&id) else { return Vec::new() };
                let Some(producer) = self.producers.get(&consumer.producer) else {
                    return Vec::new();
                };
                let about = Stream {
                    id: self.ids.text(id.0),
                    kind: producer.kind,
                    parameters: &producer.consumable,
                    incoming: false,
                };
                vec![self.stream_object(&about, stream)]
            }
            _ => Vec::new(),
        }
    }

    fn timestamp_ms(&self) -> u64 {
        self.config.unix_origin_ms.saturating_add(self.now.as_millis())
    }

    fn transport_object(
        &self,
        id: opencall_dataplane::message::TransportId,
        stats: &TransportStats,
    ) -> Map<String, Value> {
        let transport = self.transports.get(&id);
        let text = self.ids.text(id.0);
        let ice_state = match transport.and_then(|transport| transport.ice_state) {
            None => "new",
            Some(IceState::Connected) => "connected",
            Some(IceState::Completed) => "completed",
            Some(IceState::Disconnected) => "disconnected",
        };
        let mut object = object(json!({
            "type": "webrtc-transport",
            "id": text,
            "transportId": text,
            "timestamp": self.timestamp_ms(),
            "iceRole": "controlled",
            "iceState": ice_state,
            "dtlsState": transport.map_or("closed", |transport| transport.dtls_state.name()),
            "bytesReceived": stats.bytes_received,
            "bytesSent": stats.bytes_sent,
            "recvBitrate": stats.recv_bitrate_bps,
            "sendBitrate": stats.send_bitrate_bps,
            "rtpBytesReceived": stats.rtp_bytes_received,
            "rtpBytesSent": stats.rtp_bytes_sent,
            "rtpPacketsReceived": stats.rtp_packets_received,
            "rtpPacketsSent": stats.rtp_packets_sent,
        }));
        if let Some(remote) = stats.remote.or(transport.and_then(|transport| transport.remote)) {
            let tuple = json!({
                "protocol": "udp",
                "remoteIp": remote.ip().to_string(),
                "remotePort": remote.port(),
            });
            object.insert("iceSelectedTuple".to_owned(), tuple);
        }
        if let Some(profile) = stats.srtp_profile {
            object.insert("srtpProfile".to_owned(), profile.into());
        }
        object
    }

    fn stream_object(&self, about: &Stream, stats: &RtpStreamStats) -> Map<String, Value> {
        let kind = match about.kind {
            Kind::Audio => "audio",
            Kind::Video => "video",
        };
        let codec = about.parameters.codecs.first();
        let clock_rate = codec.map_or(1, |codec| codec.clock_rate.max(1));
        let mut object = object(json!({
            "type": if about.incoming { "inbound-rtp" } else { "outbound-rtp" },
            "id": about.id,
            "timestamp": self.timestamp_ms(),
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
        let owner = if about.incoming { "producerId" } else { "consumerId" };
        object.insert(owner.to_owned(), about.id.clone().into());
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

/// What an RTP stream belongs to.
struct Stream<'a> {
    id: String,
    kind: Kind,
    parameters: &'a RtpParameters,
    incoming: bool,
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
