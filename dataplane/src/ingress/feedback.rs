//! RTCP from a client, and what we ask of producers: retransmissions, key frames.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use opencall_io::{SocketId, TxBatch};
use opencall_wire::rtcp::{
    self, ExtendedBlock, ExtendedReport, Nack, Packet, ReportBlock, TransportCc, Writer,
};
use opencall_wire::rtp::extension::ExtensionIds;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::path::Path;
use crate::egress::prober::Prober;
use crate::fanout::links::PipeMessage;
use crate::ingress::producer::Encoding;
use crate::ingress::receive_stats::Report;
use crate::ingress::source::{SenderReport, SourceNews};
use crate::plain::Flow;
use crate::sender_clock::SenderClock;
use crate::store::{ConsumerKey, ProducerKey, TransportKey};

/// Bytes of one compound RTCP datagram we write, before SRTCP: within any MTU.
pub(crate) const RTCP_MAX: usize = 1200;

/// Room for the SRTCP trailer: tag and index.
const SRTCP_TRAILER_MAX: usize = 32;

/// Packets that one datagram may ask for again: as many as libwebrtc keeps on its list of missing
/// ones. 1200 bytes could name five times as many.
const NACKED_PER_DATAGRAM_MAX: u32 = 1000;

/// Transport-wide feedback that is looked at of one datagram: browsers that were held up send a few
/// together. 1200 bytes could name 800,000 packets.
const FEEDBACK_PER_DATAGRAM_MAX: u32 = 4;

/// Time between two sender reports of an encoding that are heeded. Clients send one a second or
/// so; each is told to other cores, in the ring that media takes.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// Time between two key-frame requests to another core for one encoding: it merges and limits them
/// itself, and a storm of them must not fill the ring that media takes.
const RELAY_INTERVAL: Duration = Duration::from_millis(50);

impl Core {
    pub(crate) fn on_rtcp(
        &mut self,
        now: Time,
        bytes: &mut [u8],
        source: SocketAddr,
        socket: SocketId,
        tx: &mut TxBatch,
    ) -> Result<(), DropReason> {
        let owner = self.validated(source, socket)?;
        let key = owner.transport();
        let transport = &mut self.transports[key];
        let srtp = transport.srtp.as_mut().ok_or(DropReason::NoSrtpKeys)?;
        let len = srtp.open.open_rtcp(bytes)?;
        transport.count_received(bytes.len());
        if !transport.received.admit(now, bytes.len()) {
            return Err(DropReason::IngressRate);
        }
        if !owner.proven {
            self.on_proof(now, key, (source, socket), Flow::Rtcp);
        }
        let mut nacks_left = NACKED_PER_DATAGRAM_MAX;
        let mut feedback_left = FEEDBACK_PER_DATAGRAM_MAX;
        for packet in rtcp::packets(&bytes[..len]) {
            match packet.map_err(|_| DropReason::RtcpMalformed)? {
                Packet::Nack(nack) => self.on_nack(now, key, &nack, &mut nacks_left, tx),
                Packet::TransportCc(feedback) => {
                    if feedback_left == 0 {
                        self.stats.drops.count(DropReason::FeedbackFlood);
                        continue;
                    }
                    feedback_left -= 1;
                    self.on_transport_cc(now, key, &feedback);
                }
                packet => self.on_rtcp_packet(now, key, &packet, tx),
            }
        }
        Ok(())
    }

    fn on_transport_cc(&mut self, now: Time, key: TransportKey, feedback: &TransportCc<'_>) {
        let Some(path) = &mut self.transports[key].path else { return };
        let before = path.estimator.unmatched();
        path.estimator.on_transport_cc(now, feedback, &mut self.scratch);
        self.stats.reports_unmatched += path.estimator.unmatched() - before;
        self.follow_estimate(now, key);
    }

    /// Sends again what a client misses; `left` is how many packets it may still ask for in this
    /// datagram.
    fn on_nack(
        &mut self,
        now: Time,
        key: TransportKey,
        nack: &Nack<'_>,
        left: &mut u32,
        tx: &mut TxBatch,
    ) {
        let Some(consumer) = self.outgoing(key, nack.media_ssrc) else { return };
        self.consumers[consumer].stats.on_nack();
        self.stats.nacks_received += 1;
        let most = self.transports[key].nacks_left(now).min(*left);
        let mut asked = 0;
        for sequence in nack.sequences() {
            if asked == most {
                self.stats.drops.count(DropReason::NackFlood);
                break;
            }
            asked += 1;
            self.consumers[consumer].stats.on_packet_requested();
            self.retransmit(now, consumer, sequence, tx);
        }
        *left -= asked;
        self.transports[key].count_nacked(asked);
    }

    fn on_rtcp_packet(
        &mut self,
        now: Time,
        key: TransportKey,
        packet: &Packet<'_>,
        tx: &mut TxBatch,
    ) {
        match packet {
            Packet::SenderReport(report) => {
                let clock = SenderClock { ntp: report.ntp, rtp: report.rtp_timestamp };
                let newest = SenderReport { clock, received: now, late_by: 0 };
                self.on_sender_report(key, report.ssrc, newest);
                for block in report.reports() {
                    self.on_report_block(now, key, &block);
                }
            }
            Packet::ReceiverReport(report) => {
                for block in report.reports() {
                    self.on_report_block(now, key, &block);
                }
            }
            Packet::Pli { media_ssrc, .. } => {
                let Some(consumer) = self.outgoing(key, *media_ssrc) else { return };
                self.consumers[consumer].stats.on_pli();
                self.stats.key_frame_requests_received += 1;
                self.on_picture_missing(now, consumer, tx);
            }
            Packet::Fir(fir) => {
                for entry in fir.entries() {
                    let Some(consumer) = self.outgoing(key, entry.ssrc) else { continue };
                    self.on_fir(now, consumer, (fir.sender_ssrc, entry.request_number), tx);
                }
            }
            Packet::ExtendedReport(report) => self.on_extended_report(now, key, report),
            // A REMB too. Where transport-wide feedback is agreed on, no REMB is; Chromium sends
            // one of 5 kbit/s when a picture's packet reaches it while it renegotiates.
            _ => {}
        }
    }

    /// Answers a FIR command: its source SSRC and number.
    fn on_fir(&mut self, now: Time, key: ConsumerKey, request: (u32, u8), tx: &mut TxBatch) {
        let consumer = &mut self.consumers[key];
        consumer.stats.on_fir();
        self.stats.key_frame_requests_received += 1;
        let encodings = &self.producers[consumer.producer].encodings;
        let encoding = consumer.needs_key_frame_of().and_then(|e| encodings.get(e.index()));
        let key_frame = encoding.and_then(|encoding| encoding.source.key_frame_at);
        let round_trip = consumer.stats.round_trip();
        if consumer.firs.admit(now, request, key_frame, round_trip) {
            self.on_picture_missing(now, key, tx);
        }
    }

    /// Takes up answers to our reference times.
    fn on_extended_report(&mut self, now: Time, key: TransportKey, report: &ExtendedReport<'_>) {
        let transport = &mut self.transports[key];
        for block in report.blocks() {
            let ExtendedBlock::Dlrr(dlrr) = block else { continue };
            for item in dlrr.items().filter(|item| item.ssrc == transport.local_ssrc) {
                transport.round_trip.on_answer(now, item.last_rr, item.delay_since_last_rr);
            }
        }
    }

    /// The consumer that sends under this media SSRC.
    fn outgoing(&self, transport: TransportKey, ssrc: u32) -> Option<ConsumerKey> {
        self.transports[transport].outgoing_ssrcs.get(&ssrc).copied()
    }

    fn on_sender_report(&mut self, key: TransportKey, ssrc: u32, mut report: SenderReport) {
        let Some(stream) = self.transports[key].streams.known(ssrc) else { return };
        if stream.rtx {
            return;
        }
        let producer = &mut self.producers[stream.producer];
        let Some(encoding) = producer.encodings.get_mut(usize::from(stream.encoding)) else {
            return;
        };
        if let Some(home) = &mut encoding.home {
            let SenderClock { ntp, rtp } = report.clock;
            home.source.receive.on_sender_report(report.received, ntp, rtp);
        }
        // Far ends of pipes are told of each: nobody needs so many.
        let newest = encoding.source.newest_report();
        if newest.is_some_and(|newest| report.received.since(newest.received) < REPORT_INTERVAL) {
            return;
        }
        let timeliness = &mut self.transports[key].timeliness;
        if !timeliness.admits(report) {
            return;
        }
        report.late_by = timeliness.late_by(report);
        if !encoding.source.on_report(report) {
            return;
        }
        self.pipe_source(stream.producer, usize::from(stream.encoding));
        self.forget_reports_of_another_clock(key, report);
    }

    /// A sender has one wall clock. When it was set, what the sender's other streams reported
    /// before is of another clock than what this one reports now, and must not stand beside it.
    fn forget_reports_of_another_clock(&mut self, key: TransportKey, newest: SenderReport) {
        for index in 0..self.transports[key].producers.len() {
            let producer = self.transports[key].producers[index];
            for encoding in 0..self.producers[producer].encodings.len() {
                let source = &mut self.producers[producer].encodings[encoding].source;
                let reported = source.newest_report();
                if reported.is_none_or(|report| report.is_of_clock_of(newest)) {
                    continue;
                }
                source.forget_report();
                self.pipe_source(producer, encoding);
            }
        }
    }

    /// Tells what is known of an encoding's source, which has a new sender report or is new itself,
    /// at the far ends of its producer's pipes; the report to the stage, too.
    pub(crate) fn pipe_source(&mut self, key: ProducerKey, index: usize) {
        let producer = &self.producers[key];
        let Encoding { source, max_bitrate_bps, .. } = &producer.encodings[index];
        let news = SourceNews {
            report: source.newest_report(),
            max_bitrate_bps: *max_bitrate_bps,
            known_bps: source.known_bps,
            sent_encodings: producer.sent_encodings as u8,
        };
        for &to in &producer.pipes {
            let message = PipeMessage::Source {
                producer: producer.id,
                encoding: index as u8,
                source: source.id,
                news,
            };
            if let Err(reason) = self.links.send(to, message, &[]) {
                self.stats.drops.count(reason);
            }
        }
        self.report_to_stages(key, index);
    }

    fn on_report_block(&mut self, now: Time, key: TransportKey, block: &ReportBlock) {
        let Some(consumer) = self.outgoing(key, block.ssrc) else { return };
        let report = Report {
            fraction_lost: block.fraction_lost,
            cumulative_lost: block.cumulative_lost,
            highest_sequence: block.highest_sequence,
            jitter: block.jitter,
            last_sr: block.last_sr,
            delay_since_last_sr: block.delay_since_last_sr,
        };
        let consumer = &mut self.consumers[consumer];
        consumer.on_report(now, &report);
        let round_trip = consumer.stats.round_trip();
        if let Some(path) = &mut self.transports[key].path {
            path.estimator.on_rtt(round_trip);
        }
    }

    /// Begins to estimate the path to a client whose consumers have these header extensions.
    pub(crate) fn estimate_path(&mut self, now: Time, key: TransportKey, ids: &ExtensionIds) {
        if self.transports[key].path.is_some() {
            return;
        }
        // In the lower half, as for media.
        let first = u64::from(self.random_u32() & 0x7fff);
        let transport = &mut self.transports[key];
        let prober = Prober::new(ids, first, &transport.checkpoint);
        let known_bps = transport.checkpoint.estimate_bps();
        let mut path = Path::new(now, transport.outgoing_bitrate_bps, known_bps, prober);
        if transport.srtp.is_some() {
            path.estimator.start(now);
        }
        transport.path = Some(Box::new(path));
        transport.set_pace();
    }

    /// Has layers allocated anew if the estimate calls for it, and probes sent that it asks for.
    pub(crate) fn follow_estimate(&mut self, now: Time, key: TransportKey) {
        let transport = &mut self.transports[key];
        transport.set_pace();
        let Some(path) = &mut transport.path else { return };
        if path.calls_for_allocation(now) {
            self.share_out_later(key);
        }
        self.schedule_path(now, key);
    }

    /// Makes sure that a transport is served when its estimator, or a probe, has something to do.
    pub(crate) fn schedule_path(&mut self, now: Time, key: TransportKey) {
        let transport = &self.transports[key];
        if let Some(path) = transport.path.as_ref().filter(|_| transport.can_send()) {
            let due = path.next_due(now);
            self.schedule(key, due);
        }
    }

    /// Asks for the key frame that a consumer needs now, if its viewer has not had too many. While
    /// its transport cannot send, that waits ([`Core::request_key_frames_of`]).
    pub(crate) fn request_key_frame_for(&mut self, now: Time, consumer: ConsumerKey) {
        let consumer = &self.consumers[consumer];
        if !self.transports[consumer.transport].can_send() {
            return;
        }
        let Some(index) = consumer.needs_key_frame_of() else { return };
        let (producer, viewer) = (consumer.producer, self.transports[consumer.transport].id);
        let encodings = &mut self.producers[producer].encodings;
        let Some(encoding) = encodings.get_mut(index.index()) else { return };
        if encoding.asked_by.admit(now, viewer, encoding.key_frames) {
            self.request_key_frame(producer, index.0);
        } else {
            self.stats.drops.count(DropReason::KeyFrameBudget);
        }
    }

    /// Notes that an encoding must send a key frame; said at the end of the turn, once.
    pub(crate) fn request_key_frame(&mut self, producer: ProducerKey, index: u8) {
        let encodings = &mut self.producers[producer].encodings;
        let Some(encoding) = encodings.get_mut(usize::from(index)) else { return };
        if !encoding.key_frame_asked {
            encoding.key_frame_asked = true;
            self.turn.key_frames.push((producer, index));
        }
    }

    /// Says what [`Core::request_key_frame`] noted: to the client, or to the core that has it. What
    /// cannot be said now stays for the next turn.
    pub(crate) fn flush_key_frame_requests(&mut self, now: Time, tx: &mut TxBatch) {
        let mut asked = std::mem::take(&mut self.turn.key_frames);
        asked.retain(|&(key, index)| !self.say_key_frame_request(now, key, index, tx));
        // What is asked of the stage is asked of its sources.
        let mut of_sources = std::mem::take(&mut self.turn.key_frames);
        of_sources.retain(|&(key, index)| !self.say_key_frame_request(now, key, index, tx));
        asked.append(&mut of_sources);
        self.turn.key_frames = asked;
    }

    /// Returns whether that is done with.
    fn say_key_frame_request(
        &mut self,
        now: Time,
        key: ProducerKey,
        index: u8,
        tx: &mut TxBatch,
    ) -> bool {
        if self.ask_sources_of_stage(key, index) {
            return true;
        }
        let Some(producer) = self.producers.get_mut(key) else { return true };
        let (id, home_core, transport) = (producer.id, producer.home, producer.transport);
        let Some(encoding) = producer.encodings.get_mut(usize::from(index)) else { return true };
        let Some(home) = &mut encoding.home else {
            if encoding.source.relayed_at.is_some_and(|at| now.since(at) < RELAY_INTERVAL) {
                return false;
            }
            let message = PipeMessage::KeyFrameRequest { producer: id, encoding: index };
            if let Err(reason) = self.links.send(home_core, message, &[]) {
                self.stats.drops.count(reason);
                return false;
            }
            encoding.source.relayed_at = Some(now);
            encoding.key_frame_asked = false;
            return true;
        };
        encoding.key_frame_asked = false;
        let ask_now = home.source.key_frame.request(now);
        let due = home.source.key_frame.next_timeout();
        if ask_now {
            self.send_key_frame_request(key, usize::from(index), tx);
        }
        if let Some(transport) = transport {
            self.schedule(transport, due);
        }
        true
    }

    /// Sends PLI, or FIR to a client that knows only that.
    pub(crate) fn send_key_frame_request(
        &mut self,
        key: ProducerKey,
        index: usize,
        tx: &mut TxBatch,
    ) {
        let producer = &mut self.producers[key];
        let feedback = producer.feedback;
        let Some(transport) = producer.transport else { return };
        let Some(home) = &mut producer.encodings[index].home else { return };
        let Some(media) = home.source.ssrc else { return };
        let sender = self.transports[transport].local_ssrc;
        if feedback.pli {
            home.pli_count += 1;
            self.stats.key_frame_requests_sent += 1;
            self.write_rtcp(transport, tx, |writer| writer.pli(sender, media));
        } else if feedback.fir {
            home.fir_count += 1;
            self.stats.key_frame_requests_sent += 1;
            if !home.source.key_frame.is_repeated() {
                home.fir_sequence = home.fir_sequence.wrapping_add(1);
            }
            let sequence = home.fir_sequence;
            self.write_rtcp(transport, tx, |writer| writer.fir(sender, media, sequence));
        }
    }

    /// Writes one RTCP datagram (compound, or reduced-size as RFC 5506 allows) and seals it.
    pub(crate) fn write_rtcp<E>(
        &mut self,
        key: TransportKey,
        tx: &mut TxBatch,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), E>,
    ) {
        let transport = &mut self.transports[key];
        let (Some((address, socket)), Some(srtp)) = (transport.way_for_rtcp(), &mut transport.srtp)
        else {
            return;
        };
        let Some(out) = tx.reserve(RTCP_MAX + SRTCP_TRAILER_MAX) else {
            self.stats.drops.count(DropReason::ArenaFull);
            return;
        };
        let mut writer = Writer::new(&mut out[..RTCP_MAX]);
        // A packet that no longer fits is left out; what was written before it still goes.
        let _ = write(&mut writer);
        let len = writer.finish();
        if len == 0 {
            return;
        }
        match srtp.seal.seal_rtcp(out, len) {
            Ok(sealed) => {
                tx.commit(sealed, address, socket);
                transport.limit.spend_beside(sealed);
                transport.count_sent(sealed);
            }
            Err(error) => self.stats.drops.count(error.into()),
        }
    }
}
