//! Packets that measure a path: what was sent lately again as RTX, and where there is nothing of
//! the right size, padding on a stream of its own.
//!
//! The stream is that of mediasoup: SSRC 1234, payload type 127, MID `probator`, which its clients
//! give a receiver of its own. Browsers count its packets in their feedback with or without one.
//!
//! Worked trace of a cluster of 3 Mbit/s, 15 ms, so 5625 bytes in five packets of 1125, on a core
//! that wakes every 4 ms: a packet takes 3 ms of the rate.
//!
//! ```text
//! wakes at   0 ms   4 ms   8 ms   12 ms
//! sent       1      1      1      2          each as soon as its time has come
//! ```
#![forbid(unsafe_code)]

use std::ops::Range;
use std::time::Duration;

use opencall_io::TxBatch;
use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::OUTGOING_PACKET_MAX;
use opencall_wire::rtp::extension::ExtensionIds;
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::checkpoint::{Lease, RESERVED_PACKETS, TransportCheckpoint};
use crate::congestion::{MIN_BPS, ProbeCluster};
use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::egress::header::HeaderTemplate;
use crate::egress::scatter::OVERHEAD_BYTES;
use crate::store::{ConsumerKey, TransportKey};

/// The stream of padding, as mediasoup names it (`RtpProbationGenerator`).
pub const PROBATOR_SSRC: u32 = 1234;
/// Its payload type.
pub const PROBATOR_PAYLOAD_TYPE: u8 = 127;
/// Its MID.
pub const PROBATOR_MID: &[u8] = b"probator";

/// What padding consists of.
static NOTHING: [u8; PADDING_MAX] = [0; PADDING_MAX];
const PADDING_MAX: usize = 1200;

/// How far back a packet is looked for that may be sent again: later ones are the most likely to
/// be of use to the client.
const REPEATED_MAX: u8 = 32;

/// For so long after a probe feedback is read as soon as it is there: its result decides on what
/// is sent next, and the first picture of a client waits for it.
const AWAITED: Duration = Duration::from_millis(400);

/// How often the core looks for it.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes of a packet that is sent for the feedback on it and nothing else.
const TRICKLE_BYTES: usize = 200;

/// A cluster that is being sent.
#[derive(Debug, Clone, Copy)]
struct UnderWay {
    cluster: ProbeCluster,
    began: Time,
    packets: u32,
    bytes: u32,
}

impl UnderWay {
    /// When the next packet is due: when those before it have taken their time at the rate.
    fn next_due(&self) -> Time {
        let rate_bps = self.cluster.target_bps.max(MIN_BPS);
        self.began + Duration::from_secs_f64(f64::from(self.bytes) * 8.0 / rate_bps)
    }

    fn is_over(&self) -> bool {
        self.packets >= self.cluster.min_packets && self.bytes >= self.cluster.min_bytes
    }
}

/// What sends probes to one client.
#[derive(Debug, Clone)]
pub struct Prober {
    under_way: Option<UnderWay>,
    /// Feedback on the last probe is waited for until then.
    awaited_until: Time,
    /// Of its stream: the header, and the next number, which is the SRTP index.
    header: Option<Box<HeaderTemplate>>,
    next: ExtendedSeq,
    /// One above the numbers that this core may use.
    held: u64,
    checkpoint: Lease<TransportCheckpoint>,
    /// How far back the next packet to repeat lies.
    back: u8,
}

impl Prober {
    /// One whose packets carry these header extensions; `first` is the number of the first, if no
    /// core before this one has sent any.
    pub fn new(ids: &ExtensionIds, first: u64, checkpoint: &Lease<TransportCheckpoint>) -> Self {
        let generation = checkpoint.generation();
        let Range { start, end } = checkpoint.padding().begin(generation, first, RESERVED_PACKETS);
        Prober {
            under_way: None,
            awaited_until: Time::ZERO,
            header: HeaderTemplate::new(ids, PROBATOR_MID, true).map(Box::new),
            next: ExtendedSeq(start),
            held: end,
            checkpoint: checkpoint.clone(),
            back: 0,
        }
    }

    /// The number of its next packet.
    fn number(&mut self) -> Result<ExtendedSeq, DropReason> {
        if self.next.0 >= self.held {
            let end = self.next.0.saturating_add(RESERVED_PACKETS);
            let Prober { checkpoint, held, .. } = self;
            let extended = checkpoint.padding().extend(checkpoint.generation(), *held, end);
            extended.map_err(|_| DropReason::CoreReplaced)?;
            self.held = end;
        }
        let index = self.next;
        self.next.0 += 1;
        Ok(index)
    }

    /// When it has something to do; `None` while no probe is out.
    pub fn next_due(&self, now: Time) -> Option<Time> {
        let look = (now < self.awaited_until).then_some(now + LOOK);
        self.under_way.map(|probe| probe.next_due()).or(look)
    }
}

impl Core {
    /// Whether a probe is out, so that feedback is not to wait.
    pub fn awaits_feedback(&self, now: Time) -> bool {
        now < self.feedback_awaited_until
    }

    /// Sends what is due of a transport's probes.
    pub(crate) fn probe(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        let Some(path) = &mut self.transports[key].path else { return };
        let has_changed = path.tick(now);
        let is_starved = path.is_starved(now);
        if has_changed {
            self.transports[key].set_pace();
        }
        if !self.transports[key].can_send() {
            // What is left of a probe would leave at once when the client is found again.
            self.end_probe_without_path(key);
            return;
        }
        if is_starved {
            self.send_padding(now, key, TRICKLE_BYTES, None, tx);
        }
        while let Some(probe) = self.probe_due(now, key) {
            let bytes = probe.cluster.packet_bytes();
            let Some(sent) = self.send_probe(now, key, bytes, probe.cluster.id, tx) else {
                // No room in this turn: the rest would tell of us and not of the path.
                self.end_probe(now, key);
                break;
            };
            let Some(path) = &mut self.transports[key].path else { return };
            let Some(under_way) = &mut path.prober.under_way else { return };
            under_way.packets += 1;
            under_way.bytes += sent as u32;
            if under_way.is_over() {
                self.end_probe(now, key);
            }
        }
    }

    /// Sends a packet to where a client says that it is, which nothing has proven and nothing else
    /// is sent to: who only receives proves it with feedback, and has nothing to give that on.
    #[cold]
    pub(crate) fn ask_for_proof(&mut self, now: Time, key: TransportKey, tx: &mut TxBatch) {
        let transport = &self.transports[key];
        if transport.destination.is_some() || transport.srtp.is_none() || transport.path.is_none() {
            return;
        }
        let claimant = transport.ice.claimant();
        let allowance = claimant.map_or(0, |claimant| transport.ice.allowance(claimant));
        if allowance >= TRICKLE_BYTES as u64 {
            self.send_padding(now, key, TRICKLE_BYTES, None, tx);
        }
    }

    /// The probe of which a packet is due: the one under way, or the next.
    fn probe_due(&mut self, now: Time, key: TransportKey) -> Option<UnderWay> {
        let path = self.transports[key].path.as_mut()?;
        if path.prober.under_way.is_none() {
            let cluster = path.estimator.next_probe(now)?;
            let probe = UnderWay { cluster, began: now, packets: 0, bytes: 0 };
            path.prober.under_way = Some(probe);
        }
        path.prober.under_way.filter(|probe| probe.next_due() <= now)
    }

    fn end_probe_without_path(&mut self, key: TransportKey) {
        if let Some(path) = &mut self.transports[key].path {
            path.prober.under_way = None;
        }
    }

    fn end_probe(&mut self, now: Time, key: TransportKey) {
        let Some(path) = &mut self.transports[key].path else { return };
        path.prober.under_way = None;
        path.prober.awaited_until = now + AWAITED;
        self.feedback_awaited_until = self.feedback_awaited_until.max(now + AWAITED);
    }

    /// Sends one packet of a probe, of about so many bytes; how many it had.
    fn send_probe(
        &mut self,
        now: Time,
        key: TransportKey,
        bytes: usize,
        probe: u8,
        tx: &mut TxBatch,
    ) -> Option<usize> {
        let sent = self.repeat_something(now, key, bytes, probe, tx);
        sent.or_else(|| self.send_padding(now, key, bytes, Some(probe), tx))
    }

    /// Sends a packet again that left lately and has about so many bytes; how many it had.
    fn repeat_something(
        &mut self,
        now: Time,
        key: TransportKey,
        bytes: usize,
        probe: u8,
        tx: &mut TxBatch,
    ) -> Option<usize> {
        let back = {
            let prober = &mut self.transports[key].path.as_mut()?.prober;
            prober.back = (prober.back + 1) % REPEATED_MAX;
            u64::from(prober.back)
        };
        let is_repeated = |key: &&ConsumerKey| {
            let consumer = &self.consumers[**key];
            let is_sent = consumer.layers.current().is_some() && !consumer.paused;
            consumer.kind == MediaKind::Video && consumer.rtx.is_some() && is_sent
        };
        let &consumer = self.transports[key].consumers.iter().find(is_repeated)?;
        let number = self.consumers[consumer].sent.highest()?.0.checked_sub(back)?;
        let number = ExtendedSeq(number);
        let len = self.sent_lately(now, consumer, number)? + OVERHEAD_BYTES;
        if len < bytes / 2 || len > bytes + bytes / 2 {
            return None;
        }
        let begin = tx.len_bytes();
        self.resend(now, consumer, number.wire(), Some(probe), tx).ok()?;
        let sent = tx.len_bytes() - begin;
        self.transports[key].on_padding_sent(now, sent);
        Some(sent)
    }

    /// Sends a packet of the stream of padding, of about so many bytes; how many it has.
    fn send_padding(
        &mut self,
        now: Time,
        key: TransportKey,
        bytes: usize,
        probe: Option<u8>,
        tx: &mut TxBatch,
    ) -> Option<usize> {
        match self.try_send_padding(now, key, bytes, probe, tx) {
            Ok(len) => Some(len),
            Err(reason) => {
                self.stats.drops.count(reason);
                None
            }
        }
    }

    fn try_send_padding(
        &mut self,
        now: Time,
        key: TransportKey,
        bytes: usize,
        probe: Option<u8>,
        tx: &mut TxBatch,
    ) -> Result<usize, DropReason> {
        let transport = &mut self.transports[key];
        transport.reserve_transport_sequences(1);
        let way = transport.destination.or_else(|| transport.ice.claimant());
        let (Some((address, socket)), Some(srtp)) = (way, &mut transport.srtp) else {
            return Err(DropReason::TransportNotReady);
        };
        let prober = &mut transport.path.as_mut().ok_or(DropReason::Internal)?.prober;
        let buffer = tx.reserve(OUTGOING_PACKET_MAX).ok_or(DropReason::ArenaFull)?;
        let index = prober.number()?;
        let fields = OutgoingHeader {
            marker: false,
            payload_type: PROBATOR_PAYLOAD_TYPE,
            sequence: index.wire(),
            timestamp: (now.as_millis() as u32).wrapping_mul(90),
            ssrc: PROBATOR_SSRC,
        };
        let sending = (now, transport.next_transport_sequence);
        let template = prober.header.as_ref().ok_or(DropReason::TooLarge)?;
        let header_len = template.write_plain(buffer, fields, sending);
        let header_len = header_len.ok_or(DropReason::TooLarge)?;
        let payload_len = bytes.saturating_sub(header_len + srtp.seal.rtp_overhead());
        let payload = &NOTHING[..payload_len.clamp(1, PADDING_MAX)];
        let sealed = srtp.seal.seal_rtp(index.0, header_len, payload, buffer);
        let len = sealed.map_err(DropReason::from)?;
        tx.commit(len, address, socket);
        transport.ice.count_sent((address, socket), len);
        transport.number(now, len, probe);
        transport.counters.rtp_packets_sent += 1;
        transport.on_padding_sent(now, len);
        Ok(len)
    }
}
