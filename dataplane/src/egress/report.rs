//! What time asks for: feedback, reports, consent; and the numbers that control asks for.
#![forbid(unsafe_code)]

use opencall_io::TxBatch;
use opencall_wire::rtcp::{Full, ReportBlock, SenderInfo, Writer};
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::core::Core;
use crate::ingress::feedback::RTCP_MAX;
use crate::ingress::receive_stats::Report;
use crate::layers::EncodingIndex;
use crate::message::{Event, RtpStreamStats, Stats, StatsQuery};
use crate::store::{ConsumerKey, ProducerKey, TransportKey};
use crate::transport::REPORT_INTERVAL;

/// Transports whose deadlines are served in one turn, so that media is not starved by timers.
const MAX_TIMEOUTS_PER_TURN: usize = 256;

/// Sender reports with their SDES in one datagram at most.
const SENDER_REPORTS_PER_DATAGRAM: usize = 10;

/// Bytes of a sender report and an SDES packet, but for the CNAME (RFC 3550 sections 6.4.1 and
/// 6.5): 28 for the report; header, SSRC, item header, end and padding.
const SENDER_REPORT_BYTES: usize = 28 + 4 + 4 + 2 + 4;

/// Report blocks in one datagram: what 1200 bytes hold beside the headers of two receiver reports,
/// of which one has 31 blocks at most. Further blocks go in further datagrams.
const REPORT_BLOCKS_PER_DATAGRAM: usize =
    (RTCP_MAX - 2 * RECEIVER_REPORT_HEADER_BYTES) / REPORT_BLOCK_BYTES;

/// Header and SSRC of a receiver report, and each of its blocks (RFC 3550 section 6.4.2).
const RECEIVER_REPORT_HEADER_BYTES: usize = 8;
const REPORT_BLOCK_BYTES: usize = 24;

/// Streams that one REMB lists: its count field has eight bits. Senders sum over the transport
/// whatever is listed, so that streams beyond it lose nothing.
const REMB_SSRCS_MAX: usize = 255;

impl Core {
    /// Does what is due: NACKs, transport-wide feedback, reports, consent.
    pub(crate) fn report(&mut self, now: Time, tx: &mut TxBatch) {
        self.share_out_stale(now);
        if !self.turn.stale_dtls.is_empty() {
            self.send_stale_dtls(tx);
        }
        for _ in 0..MAX_TIMEOUTS_PER_TURN {
            let Some((at, key)) = self.timers.pop_due(now) else { break };
            match self.transports.get_mut(key) {
                Some(transport) if transport.scheduled == at => transport.scheduled = Time::NEVER,
                _ => continue,
            }
            self.serve(now, key, tx);
            self.reschedule(now, key);
        }
        self.share_out_stale(now);
        self.flush_key_frame_requests(now, tx);
        self.count_stale_demands();
    }

    fn serve(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        self.transports[key].hear_plain(now);
        if self.transports[key].ice.handle_timeout(now).is_some() {
            self.on_consent_lost(key);
        }
        if self.transports[key].take_ice_report(now) {
            self.report_ice(key);
        }
        self.send_transport_feedback(now, key, tx);
        self.release(now, key, tx);
        self.probe(now, key, tx);
        for index in 0..self.transports[key].producers.len() {
            let producer = self.transports[key].producers[index];
            for encoding in 0..self.producers[producer].encodings.len() {
                self.chase(now, key, producer, encoding, tx);
            }
        }
        if self.transports[key].report_due <= now {
            self.transports[key].report_due = now + REPORT_INTERVAL;
            self.sample_rates(now, key);
            self.send_reports(now, key, tx);
            self.allocate_layers(now, key);
            self.report_scores(now, key);
            self.report_bandwidth(key);
        }
    }

    /// Tells control what can be sent to a client, and what could be used, if that has changed.
    fn report_bandwidth(&mut self, key: TransportKey) {
        let transport = &mut self.transports[key];
        let Some(path) = &mut transport.path else { return };
        transport.checkpoint.note_estimate(path.estimator.target_bps());
        let changed = path.changed_bandwidth();
        if let Some(bandwidth) = changed {
            self.events.push_back(Event::Bandwidth { transport: transport.id, bandwidth });
        }
    }

    /// The earliest thing the transport waits for.
    fn deadline(&self, now: Time, key: TransportKey) -> Time {
        let transport = &self.transports[key];
        let mut due = transport.ice.next_timeout().min(transport.report_due);
        due = due.min(transport.ice_report_due);
        if let Some(waiting) = transport.waiting() {
            due = due.min(waiting.due);
        }
        if let Some(path) = transport.path.as_ref().filter(|_| transport.can_send()) {
            due = due.min(path.next_due(now));
        }
        if transport.sends_transport_cc {
            due = due.min(transport.arrivals.next_timeout());
        }
        for &producer in &transport.producers {
            for encoding in &self.producers[producer].encodings {
                let Some(home) = &encoding.home else { continue };
                let source = &home.source;
                due = due.min(source.nack.next_timeout()).min(source.key_frame.next_timeout());
            }
        }
        due
    }

    /// Puts the transport's earliest deadline into the timers.
    pub(crate) fn reschedule(&mut self, now: Time, key: TransportKey) {
        let due = self.deadline(now, key);
        self.schedule(key, due);
    }

    /// Makes sure that the transport is served at `due` or before.
    pub(crate) fn schedule(&mut self, key: TransportKey, due: Time) {
        let transport = &mut self.transports[key];
        if due < transport.scheduled {
            transport.scheduled = due;
            self.timers.add(due, key);
        }
    }

    fn send_transport_feedback(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        let transport = &mut self.transports[key];
        if !transport.sends_transport_cc || transport.srtp.is_none() {
            return;
        }
        let (sender, media) = (transport.local_ssrc, transport.media_ssrc);
        // The recorder is lent out while `self` writes.
        let mut arrivals = std::mem::take(&mut transport.arrivals);
        while let Some(range) = arrivals.poll(now) {
            self.write_rtcp(key, tx, |writer| {
                writer.transport_cc(
                    sender,
                    media,
                    range.feedback_count,
                    range.base_sequence,
                    range.reference_time_64ms,
                    range.arrivals,
                )
            });
        }
        self.transports[key].arrivals = arrivals;
    }

    /// Asks the client again for what an encoding lacks: packets, or the key frame.
    fn chase(
        &mut self,
        now: Time,
        key: TransportKey,
        producer: ProducerKey,
        index: usize,
        tx: &mut TxBatch,
    ) {
        let round_trip = self.transports[key].round_trip.measured_or_default();
        let source = &mut self.producers[producer];
        let nacks = source.feedback.nack;
        let Some(home) = &mut source.encodings[index].home else { return };
        if nacks {
            let mut missing: SmallVec<[u16; 64]> = SmallVec::new();
            let gave_up = home.source.nack.poll(now, round_trip, &mut missing);
            let media = home.source.ssrc;
            if let (false, Some(media)) = (missing.is_empty(), media) {
                let sender = self.transports[key].local_ssrc;
                self.stats.nacks_sent += 1;
                self.write_rtcp(key, tx, |writer| {
                    writer.nack(sender, media, missing.iter().copied())
                });
            }
            if gave_up.is_some() {
                self.request_key_frame(producer, index as u8);
            }
        }
        let Some(home) = &mut self.producers[producer].encodings[index].home else { return };
        if home.source.key_frame.poll(now) {
            self.send_key_frame_request(producer, index, tx);
        }
    }

    fn send_reports(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        if self.transports[key].srtp.is_none() || self.transports[key].destination.is_none() {
            return;
        }
        self.send_receiver_reports(now, key, tx);
        let mut first = 0;
        while first < self.transports[key].consumers.len() {
            first += self.send_sender_reports(now, key, first, tx);
        }
    }

    /// Reports on every stream that arrives, in as many datagrams as that takes; the last has the
    /// REMB and our reference time, whose answer tells the round trip to who only sends to us.
    fn send_receiver_reports(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        let sender = self.transports[key].local_ssrc;
        let mut blocks: SmallVec<[ReportBlock; REPORT_BLOCKS_PER_DATAGRAM]> = SmallVec::new();
        let mut remb_ssrcs: SmallVec<[u32; REMB_SSRCS_MAX]> = SmallVec::new();
        let mut worst_lost = None;
        for index in 0..self.transports[key].producers.len() {
            let producer = self.transports[key].producers[index];
            let feedback = self.producers[producer].feedback;
            for encoding in 0..self.producers[producer].encodings.len() {
                let Some(block) = self.report_block(now, producer, encoding) else { continue };
                if blocks.len() == REPORT_BLOCKS_PER_DATAGRAM {
                    self.write_rtcp(key, tx, |writer| writer.receiver_reports(sender, &blocks));
                    blocks.clear();
                }
                blocks.push(block);
                worst_lost = worst_lost.max(Some(block.fraction_lost));
                let by_remb = feedback.remb && !feedback.transport_cc;
                if by_remb && remb_ssrcs.len() < REMB_SSRCS_MAX {
                    remb_ssrcs.push(block.ssrc);
                }
            }
        }
        let Some(worst_lost) = worst_lost else { return };
        let transport = &mut self.transports[key];
        let received_bps = transport.receive_bps(now);
        let bitrate = u64::from(transport.remb.update(received_bps, worst_lost));
        let ntp = self.clock.ntp(now);
        transport.round_trip.on_report_sent(now, ntp);
        let finish = |writer: &mut Writer<'_>| {
            if !remb_ssrcs.is_empty() {
                writer.remb(sender, bitrate, &remb_ssrcs)?;
            }
            writer.receiver_reference_time(sender, ntp)
        };
        let mut said = false;
        self.write_rtcp(key, tx, |writer| {
            writer.receiver_reports(sender, &blocks)?;
            finish(writer)?;
            said = true;
            Ok::<_, Full>(())
        });
        if !said {
            // The blocks left no room for it.
            self.write_rtcp(key, tx, |writer| {
                writer.receiver_reports(sender, &[])?;
                finish(writer)
            });
        }
    }

    /// What is to be said of an encoding; `None` while nothing of it has come.
    fn report_block(
        &mut self,
        now: Time,
        producer: ProducerKey,
        index: usize,
    ) -> Option<ReportBlock> {
        let home = self.producers[producer].encodings[index].home.as_mut()?;
        let source = &mut home.source;
        let ssrc = source.ssrc.filter(|_| source.receive.packets() > 0)?;
        Some(report_block(ssrc, source.receive.report_block(now)))
    }

    /// Writes the reports of as many consumers as fit one datagram, from the `first` on; how many
    /// those are. Long CNAMEs take room, and no client's may cost another's report.
    fn send_sender_reports(
        &mut self,
        now: Time,
        key: TransportKey,
        first: usize,
        tx: &mut TxBatch,
    ) -> usize {
        let mut room = RTCP_MAX;
        let keys: SmallVec<[ConsumerKey; SENDER_REPORTS_PER_DATAGRAM]> = self.transports[key]
            .consumers
            .iter()
            .skip(first)
            .take(SENDER_REPORTS_PER_DATAGRAM)
            .copied()
            .take_while(|&consumer| {
                let needed = SENDER_REPORT_BYTES + self.consumers[consumer].cname.len();
                let fits = needed <= room;
                room = room.saturating_sub(needed);
                fits
            })
            .collect();
        let taken = keys.len().max(1);
        let mut reports: SmallVec<[(ConsumerKey, SenderInfo); SENDER_REPORTS_PER_DATAGRAM]> =
            SmallVec::new();
        for consumer in keys {
            if let Some(info) = self.sender_info(now, consumer) {
                reports.push((consumer, info));
            }
        }
        // The names stay with the consumers: they are lent out while `self` writes.
        let names: SmallVec<[(u32, String, SenderInfo); SENDER_REPORTS_PER_DATAGRAM]> = reports
            .into_iter()
            .map(|(consumer, info)| {
                let consumer = &mut self.consumers[consumer];
                (consumer.ssrc, std::mem::take(&mut consumer.cname), info)
            })
            .collect();
        self.write_rtcp(key, tx, |writer| {
            names.iter().try_for_each(|(ssrc, cname, info)| {
                writer.sender_report(*ssrc, info, &[])?;
                writer.sdes_cname(*ssrc, cname)
            })
        });
        for (ssrc, cname, _) in names {
            if let Some(&consumer) = self.transports[key].outgoing_ssrcs.get(&ssrc) {
                self.consumers[consumer].cname = cname;
            }
        }
        taken
    }

    /// The sender report of a consumer: the producer's own relation between wall clock and media
    /// clock, carried through our timestamp offset, so that streams of one CNAME stay in lip-sync
    /// whatever the network did to them on the way here.
    ///
    /// Nothing else will do. Of a stream whose source has not reported, only its arrival is known,
    /// by another clock than the sender's: a receiver would set its lips off by what the clocks
    /// differ. So that stream's report waits.
    fn sender_info(&mut self, now: Time, key: ConsumerKey) -> Option<SenderInfo> {
        let consumer = &mut self.consumers[key];
        let producer = &self.producers[consumer.producer];
        let (packets, octets) = consumer.stats.sent()?;
        let source = &producer.encodings.get(consumer.layers.current()?.index())?.source;
        if !consumer.layers.follows(source.id) {
            return None;
        }
        let report = source.report(producer.clock_rate_hz)?;
        let elapsed = now.since(report.received);
        let ticks =
            (elapsed.as_nanos() * u128::from(producer.clock_rate_hz) / 1_000_000_000) as u32;
        let rtp_timestamp =
            report.clock.rtp.wrapping_add(ticks).wrapping_add(consumer.timestamp.offset());
        let ntp = report.clock.ntp + elapsed;
        consumer.stats.on_report_sent(now, ntp);
        Some(SenderInfo { ntp, rtp_timestamp, packets, octets })
    }

    /// Ends one interval of the bitrates of a transport and its consumers, and asks for the key
    /// frames without which temporal layers cannot be had.
    fn sample_rates(&mut self, now: Time, key: TransportKey) {
        self.transports[key].sample_rates(now);
        for index in 0..self.transports[key].consumers.len() {
            let consumer = self.transports[key].consumers[index];
            self.consumers[consumer].stats.sample_rate(now);
            if self.consumers[consumer].layers.needs_key_frame() {
                self.request_key_frame_for(now, consumer);
            }
        }
    }

    /// Tells control scores that changed.
    fn report_scores(&mut self, now: Time, key: TransportKey) {
        for index in 0..self.transports[key].producers.len() {
            let producer = &mut self.producers[self.transports[key].producers[index]];
            if let Some(scores) = producer.changed_scores(now) {
                self.events.push_back(Event::ProducerScore { producer: producer.id, scores });
            }
        }
        for index in 0..self.transports[key].consumers.len() {
            let consumer = &mut self.consumers[self.transports[key].consumers[index]];
            if let Some(score) = consumer.stats.changed_score() {
                self.events.push_back(Event::ConsumerScore { consumer: consumer.id, score });
            }
        }
    }

    /// The numbers that control asks for.
    pub(crate) fn query(&mut self, now: Time, of: StatsQuery) -> Option<Stats> {
        match of {
            StatsQuery::Transport(id) => {
                let key = *self.index.transports.get(&id)?;
                Some(Stats::Transport(self.transports[key].stats(now)))
            }
            StatsQuery::Producer(id) => {
                let key = *self.index.producers.get(&id)?;
                let producer = &mut self.producers[key];
                let transport = producer.transport.and_then(|key| self.transports.get(key));
                let round_trip_ms = transport.and_then(|transport| transport.round_trip.millis());
                Some(Stats::Producer(producer.stats(now, round_trip_ms).into_vec()))
            }
            StatsQuery::Consumer(id) => {
                let key = *self.index.consumers.get(&id)?;
                let consumer = &mut self.consumers[key];
                let producer = &self.producers[consumer.producer];
                let encoding = consumer.layers.current().map_or(0, EncodingIndex::index);
                let key_frames = producer.encodings.get(encoding).map_or(0, |e| e.key_frames);
                let base = RtpStreamStats {
                    ssrc: consumer.ssrc,
                    rtx_ssrc: consumer.rtx.as_ref().map(|rtx| rtx.ssrc),
                    key_frames,
                    ..RtpStreamStats::default()
                };
                Some(Stats::Consumer(consumer.stats.fill(now, base)))
            }
            StatsQuery::Core => {
                let mut stats = self.stats.clone();
                stats.at = now;
                stats.transports = self.transports.len() as u64;
                stats.producers = self.producers.len() as u64;
                stats.consumers = self.consumers.len() as u64;
                Some(Stats::Core(Box::new(stats)))
            }
        }
    }
}

/// Our statistics as the wire has them.
fn report_block(ssrc: u32, report: Report) -> ReportBlock {
    ReportBlock {
        ssrc,
        fraction_lost: report.fraction_lost,
        cumulative_lost: report.cumulative_lost,
        highest_sequence: report.highest_sequence,
        jitter: report.jitter,
        last_sr: report.last_sr,
        delay_since_last_sr: report.delay_since_last_sr,
    }
}
