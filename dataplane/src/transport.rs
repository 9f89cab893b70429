//! One WebRTC transport: an ICE, DTLS and SRTP association with one client, and what flows over it.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foldhash::fast::RandomState;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::extension::ExtensionIds;
use opencall_wire::srtp::{OpenContext, Profile, SealContext};
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::checkpoint::{Lease, Place, RESERVED_TRANSPORT_SEQUENCES, TransportCheckpoint};
use crate::dtls::Flight;
use crate::egress::limit::SendLimit;
use crate::egress::pace::{Pace, Rate};
use crate::egress::path::{Budget, Path};
use crate::egress::waiting::{Offer, Offered, Waiting};
use crate::fanout::Pending;
use crate::ice::IceAgent;
use crate::ice::agent::Tuple;
use crate::ingress::limit::{ReceiveMeter, TRANSPORT_LIMIT};
use crate::ingress::remb::RembEstimator;
use crate::ingress::stream_table::StreamTable;
use crate::ingress::timeliness::Timeliness;
use crate::ingress::transport_cc::ArrivalRecorder;
use crate::message::{IceState, TransportConfig, TransportId, TransportStats};
use crate::plain::Plain;
use crate::rate::{CounterRate, Evenly, PerSecond};
use crate::round_trip::RoundTrip;
use crate::store::{ConsumerKey, ProducerKey};

/// Datagrams of DTLS a second that reach the control core whatever else happens. A handshake takes
/// a dozen.
pub const MAX_DTLS_PER_SECOND: u32 = 64;

/// Beyond them, as many more of one transport, while the core has some to spare: garbage that looks
/// like records takes none of a handshake's. Control reads one in 3 µs; only it can tell which is
/// good.
const MAX_SPARE_DTLS_PER_SECOND: u32 = 512;

/// The same of all transports of a core together: 12 ms of control's second.
const MAX_SPARE_DTLS_PER_CORE_SECOND: u32 = 4096;

/// The same from addresses other than the selected one, together: enough for a handshake, and
/// whoever sends from there leaves the selected one its share.
const MAX_DTLS_PER_SECOND_ELSEWHERE: u32 = 16;

/// Datagrams of data channels a second from one transport, 150 Mbit/s of full ones, and at once:
/// two of SCTP's windows. SCTP takes a drop beyond them for congestion and slows down.
const MAX_DATA_PER_SECOND: u32 = 16_384;
const MAX_DATA_AT_ONCE: u32 = 1_024;

/// The same of all transports of a core together.
const MAX_DATA_PER_CORE_SECOND: u32 = 32_768;
const MAX_DATA_PER_CORE_AT_ONCE: u32 = 4_096;

/// How often control is told of ICE in a second, at once: a first path, its nomination and a better
/// one. A client that goes to and fro between two is told of once a second.
const ICE_REPORTS_PER_SECOND: u32 = 3;

/// How often reports (SR, RR, SDES) go out. RFC 3550 asks for 5 s at least on average, browsers and
/// RFC 4585 use 1 s for video, which keeps round-trip times and lip-sync fresh.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Packets that one client may ask for again in a second: all that libwebrtc keeps on its list of
/// missing ones, four times. What is more costs a core more than a client on a bad link gets of it.
pub const MAX_NACKED_PER_SECOND: u32 = 4_000;

/// SRTP state of both directions.
#[repr(C)]
pub struct Srtp {
    /// What we send.
    pub seal: SealContext,
    /// What we receive.
    pub open: OpenContext,
}

/// Counters of what a transport sends, as they grow.
#[derive(Debug, Clone, Default)]
#[repr(C)]
pub struct SentCounters {
    /// RTP bytes sent.
    pub rtp_bytes_sent: u64,
    /// RTP packets sent.
    pub rtp_packets_sent: u64,
}

/// Counters of what a transport receives, as they grow.
#[derive(Debug, Clone, Default)]
pub struct ReceivedCounters {
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// RTP bytes received.
    pub rtp_bytes_received: u64,
    /// RTP packets received.
    pub rtp_packets_received: u64,
}

/// One transport on this core. What a packet that leaves touches comes first, in three cache lines.
#[repr(C, align(64))]
pub struct Transport {
    /// What this turn's gather phase found for it, in order of arrival.
    pub pending: Vec<Pending>,
    /// Selected remote address and the socket it is reached by, if it is proven that its client is
    /// there and wants to be sent to.
    pub destination: Option<Tuple>,
    /// The client says that it is somewhere else, or is not proven to be where it was selected.
    pub has_claimant: bool,
    /// Pictures wait for their pace.
    waits: bool,
    /// Next transport-wide sequence number to send.
    pub next_transport_sequence: u16,
    /// Transport-wide sequence numbers below it were said to be used.
    transport_sequences_end: u16,
    /// What is known of the way to its client, if that gives transport-wide feedback.
    pub path: Option<Box<Path>>,
    /// How much it is sent, and sent again.
    pub limit: SendLimit,
    /// How fast it is sent pictures.
    pub pace: Pace,
    /// What it has sent.
    pub counters: SentCounters,
    /// Keys, once DTLS is done.
    pub srtp: Option<Srtp>,
    /// The pictures that wait, if any do.
    waiting: Option<Box<Waiting>>,
    /// UDP payload bytes sent that are not of media.
    beside_bytes_sent: u64,
    /// The SSRC under which our RTCP speaks.
    pub local_ssrc: u32,
    /// A producer's SSRC for transport-wide messages to name as media source.
    pub media_ssrc: u32,
    /// How much it sends.
    pub received: ReceiveMeter,
    /// What it has received.
    pub received_counters: ReceivedCounters,
    /// Its id.
    pub id: TransportId,
    /// Its ICE agent.
    pub ice: IceAgent,
    /// How its client is known, where neither ICE nor DTLS says so.
    pub plain: Option<Box<Plain>>,
    /// The ICE state and remote address told to control last.
    pub reported_ice: Option<(IceState, SocketAddr)>,
    /// When control is to be told of what has changed since; [`Time::NEVER`] if it was told.
    pub ice_report_due: Time,
    /// Reports in the second that began then.
    ice_reports: (Time, u32),
    /// Incoming SSRCs and how new ones are recognised.
    pub streams: StreamTable,
    /// Ids of header extensions on what arrives. RFC 8843 section 9.2 makes them one set for all
    /// media of a bundle, so the union over producers is exact.
    pub incoming_extensions: ExtensionIds,
    /// Arrival times for transport-wide feedback.
    pub arrivals: ArrivalRecorder,
    /// Whether any producer uses transport-wide feedback.
    pub sends_transport_cc: bool,
    /// Its producers.
    pub producers: SmallVec<[ProducerKey; 4]>,
    /// Its consumers.
    pub consumers: Vec<ConsumerKey>,
    /// Its consumers by media SSRC.
    pub outgoing_ssrcs: HashMap<u32, ConsumerKey, RandomState>,
    /// Budget for all that is sent to this client, bits per second.
    pub outgoing_bitrate_bps: u32,
    /// Whether its layers are to be shared out anew: it is in the turn's list.
    pub allocation_stale: bool,
    /// When the next report is due; [`Time::NEVER`] while it has no media.
    pub report_due: Time,
    /// The deadline for which the timers hold an entry.
    pub scheduled: Time,
    /// Datagrams of DTLS that wait until more may be sent to where the client is not proven to be.
    pub held_dtls: VecDeque<Box<[u8]>>,
    /// DTLS datagrams from the selected address, those beyond what it is sure of, and those from
    /// others.
    dtls: PerSecond,
    spare_dtls: PerSecond,
    dtls_elsewhere: PerSecond,
    /// Whether it carries data channels, and datagrams of them.
    data_channels: bool,
    data_records: Evenly,
    /// Packets its client asked for again in the second that began then.
    nacked: (Time, u32),
    /// Which of its sender reports come in time.
    pub timeliness: Timeliness,
    /// The round trip to what it sends us, by extended reports; consumers measure their own.
    pub round_trip: RoundTrip,
    /// Bitrate told to producers without transport-wide feedback.
    pub remb: RembEstimator,
    receive_rate: CounterRate,
    send_rate: CounterRate,
    /// What a core that comes after this one goes on from.
    pub checkpoint: Lease<TransportCheckpoint>,
}

// The keys of sending begin with the third line.
const _: () = assert!(std::mem::offset_of!(Transport, srtp) == 2 * 64);

impl Transport {
    /// A transport without address or keys.
    pub fn new(now: Time, config: &TransportConfig, local_ssrc: u32) -> Self {
        let next_transport_sequence = config.checkpoint.next_transport_sequence();
        Transport {
            id: config.id,
            ice: IceAgent::new(config.ice.clone()),
            plain: None,
            reported_ice: None,
            ice_report_due: Time::NEVER,
            ice_reports: (Time::ZERO, 0),
            destination: None,
            has_claimant: false,
            waits: false,
            waiting: None,
            beside_bytes_sent: 0,
            srtp: None,
            local_ssrc: config.checkpoint.local_ssrc(local_ssrc),
            media_ssrc: 0,
            streams: StreamTable::default(),
            incoming_extensions: ExtensionIds::default(),
            arrivals: ArrivalRecorder::new(),
            sends_transport_cc: false,
            producers: SmallVec::new(),
            consumers: Vec::new(),
            outgoing_ssrcs: HashMap::default(),
            pending: Vec::new(),
            next_transport_sequence,
            transport_sequences_end: next_transport_sequence,
            path: None,
            outgoing_bitrate_bps: config.outgoing_bitrate_bps,
            allocation_stale: false,
            limit: SendLimit::new(config.outgoing_bitrate_bps),
            pace: Pace::new(Rate {
                budget_bps: config.outgoing_bitrate_bps.into(),
                estimate_bps: None,
                is_confirmed: false,
                is_late: false,
            }),
            received: ReceiveMeter::new(TRANSPORT_LIMIT),
            nacked: (Time::ZERO, 0),
            report_due: Time::NEVER,
            scheduled: Time::NEVER,
            held_dtls: VecDeque::new(),
            dtls: PerSecond::default(),
            spare_dtls: PerSecond::default(),
            dtls_elsewhere: PerSecond::default(),
            data_channels: config.data_channels,
            data_records: Evenly::default(),
            counters: SentCounters::default(),
            received_counters: ReceivedCounters::default(),
            timeliness: Timeliness::default(),
            round_trip: RoundTrip::default(),
            remb: RembEstimator::default(),
            receive_rate: CounterRate::new(now),
            send_rate: CounterRate::new(now),
            checkpoint: config.checkpoint.clone(),
        }
    }

    /// Brings where it sends in line with its ICE agent, and leaves word of it.
    pub fn find_way(&mut self) {
        self.destination = self.ice.destination();
        self.has_claimant = self.ice.claimant().is_some();
        let ufrag = Some(self.ice.used_ufrag().to_owned());
        let (destination, answered) = (self.destination, self.ice.answered());
        let claimant = self.ice.claimant();
        self.checkpoint.note_place(Place { destination, answered, claimant, ufrag });
    }

    /// Goes on where a core before had found its client, proven or not. Control is told: the core
    /// before may have died with what it had to say.
    pub fn resume(&mut self, now: Time, found: Tuple, proven: bool) {
        self.ice.resume(now, found, proven);
        // No word is left of it: which credentials its client uses is read from there, still.
        self.destination = self.ice.destination();
        self.has_claimant = self.ice.claimant().is_some();
    }

    /// Its client had said to be somewhere else, and had not proven it yet.
    pub fn resume_claimant(&mut self, now: Time, claimant: Tuple) {
        self.ice.resume_claimant(now, claimant);
        self.has_claimant = self.ice.claimant().is_some();
    }

    /// Leaves word that so many transport-wide sequence numbers more may be used.
    #[inline]
    pub fn reserve_transport_sequences(&mut self, count: usize) {
        let left = self.transport_sequences_end.wrapping_sub(self.next_transport_sequence);
        if usize::from(left) < count {
            self.reserve_more_transport_sequences(count);
        }
    }

    #[cold]
    fn reserve_more_transport_sequences(&mut self, count: usize) {
        let count = (count as u16).saturating_add(RESERVED_TRANSPORT_SEQUENCES);
        self.transport_sequences_end = self.next_transport_sequence.wrapping_add(count);
        self.checkpoint.reserve_transport_sequences(self.transport_sequences_end);
    }

    /// Whether media can be sent: there is a destination, and there are keys.
    pub fn can_send(&self) -> bool {
        self.destination.is_some() && self.srtp.is_some()
    }

    /// Where DTLS goes, and how much of it may go now: to where media would, and before there is
    /// such an address to the selected one.
    pub fn way_for_dtls(&self) -> Option<(Tuple, u64)> {
        let way = self.destination.or_else(|| self.ice.claimant())?;
        Some((way, self.ice.allowance(way)))
    }

    /// Whether control does not know where ICE stands.
    pub fn has_ice_news(&self) -> bool {
        let selected = self.ice.selected().map(|(remote, _)| remote);
        let stands = self.ice.state().zip(selected);
        stands.is_some() && stands != self.reported_ice
    }

    /// Whether control may be told of ICE now. If not, `ice_report_due` says when.
    pub fn may_report_ice(&mut self, now: Time) -> bool {
        let (began, count) = &mut self.ice_reports;
        if now.since(*began) >= Duration::from_secs(1) {
            (*began, *count) = (now, 0);
        }
        if *count >= ICE_REPORTS_PER_SECOND {
            self.ice_report_due = *began + Duration::from_secs(1);
            return false;
        }
        *count += 1;
        true
    }

    /// Whether control is to be told now of what could not be told before. It then waits a second
    /// for more: who goes to and fro for long is told of once a second.
    pub fn take_ice_report(&mut self, now: Time) -> bool {
        if now < self.ice_report_due {
            return false;
        }
        self.ice_report_due = Time::NEVER;
        self.ice_reports = (now, ICE_REPORTS_PER_SECOND);
        true
    }

    /// Whether one more DTLS datagram may be handed to control now.
    pub fn admit_dtls(&mut self, now: Time, from: Tuple, spare: &mut PerSecond) -> bool {
        if self.ice.selected() != Some(from) {
            return self.dtls_elsewhere.admit(now, MAX_DTLS_PER_SECOND_ELSEWHERE);
        }
        self.dtls.admit(now, MAX_DTLS_PER_SECOND)
            || (self.spare_dtls.admit(now, MAX_SPARE_DTLS_PER_SECOND)
                && spare.admit(now, MAX_SPARE_DTLS_PER_CORE_SECOND))
    }

    /// Whether a datagram may be one of data channels: protected, after the handshake, from the
    /// selected address.
    pub fn may_carry_data(&self, from: Tuple, flight: Flight) -> bool {
        self.data_channels
            && self.srtp.is_some()
            && flight == Flight::Protected
            && self.ice.selected() == Some(from)
    }

    /// Whether one more datagram of data channels may be handed to control now. The handshake's
    /// budget is another, so that neither can use up what the other needs.
    pub fn admit_data(&mut self, now: Time, of_core: &mut Evenly) -> bool {
        self.data_records.admit(now, MAX_DATA_PER_SECOND, MAX_DATA_AT_ONCE)
            && of_core.admit(now, MAX_DATA_PER_CORE_SECOND, MAX_DATA_PER_CORE_AT_ONCE)
    }

    /// Packets that its client may ask for again now.
    pub fn nacks_left(&mut self, now: Time) -> u32 {
        let (began, count) = &mut self.nacked;
        if now.since(*began) >= Duration::from_secs(1) {
            (*began, *count) = (now, 0);
        }
        MAX_NACKED_PER_SECOND.saturating_sub(*count)
    }

    /// Notes packets that its client has asked for again.
    pub fn count_nacked(&mut self, packets: u32) {
        self.nacked.1 += packets;
    }

    /// Notes bytes of media that were sent for the first time.
    #[inline]
    pub fn on_media_sent(&mut self, now: Time, bytes: usize) {
        self.limit.earn_resend(bytes);
        self.count_media_sent(now, bytes);
    }

    /// Notes bytes of media that were sent again.
    #[inline]
    pub fn on_media_sent_again(&mut self, now: Time, bytes: usize) {
        self.limit.spend_resend(bytes);
        self.count_media_sent(now, bytes);
    }

    #[inline]
    fn count_media_sent(&mut self, now: Time, bytes: usize) {
        self.pace.spend(now, bytes);
        self.count_bytes_sent(now, bytes);
    }

    #[inline]
    fn count_bytes_sent(&mut self, now: Time, bytes: usize) {
        self.limit.spend(now, bytes);
        self.counters.rtp_bytes_sent += bytes as u64;
        if let Some(path) = &mut self.path {
            path.estimator.on_burst(now, bytes);
        }
    }

    /// Notes bytes of a probe, which is faster than the pace on purpose.
    pub fn on_padding_sent(&mut self, now: Time, bytes: usize) {
        self.count_bytes_sent(now, bytes);
    }

    /// Whether so many packets of whatever kind and length may leave now, and none waits.
    #[inline]
    pub fn has_room(&self, now: Time, packets: usize) -> bool {
        self.pace.has_room(now, packets) && self.limit.has_room(now, packets) && !self.waits
    }

    /// The pictures that wait for their pace, if any do.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_deref()
    }

    /// The same, to take some out, or to say when the next leave.
    pub fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        self.waiting.as_deref_mut()
    }

    /// Has a packet wait until the pace lets it leave.
    pub fn offer(&mut self, now: Time, offer: Offer) -> Offered {
        self.waits = true;
        self.waiting.get_or_insert_default().offer(now, offer, &self.pace)
    }

    /// Ends the waiting where nothing waits any more.
    pub fn close_queue_if_empty(&mut self) {
        if self.waiting.as_ref().is_none_or(|waiting| waiting.is_empty()) {
            (self.waits, self.waiting) = (false, None);
        }
    }

    /// Whether so many bytes of pictures may leave now.
    pub fn admits_pictures(&self, now: Time, bytes: usize) -> bool {
        self.pace.admits(now, bytes) && self.limit.admits(now, bytes, MediaKind::Video)
    }

    /// When so many bytes of pictures may leave.
    pub fn ready_at(&self, bytes: usize) -> Time {
        self.pace.ready_at(bytes).max(self.limit.ready_at(bytes))
    }

    /// Brings the pace in line with what the path carries, as far as that is known.
    pub fn set_pace(&mut self) {
        let estimator = self.path.as_ref().map(|path| &path.estimator);
        self.pace.set(Rate {
            budget_bps: self.outgoing_bitrate_bps.into(),
            estimate_bps: estimator.map(|estimator| estimator.target_bps()),
            is_confirmed: estimator.is_some_and(|estimator| estimator.has_feedback()),
            is_late: self.waiting.as_ref().is_some_and(|waiting| waiting.is_late(&self.pace)),
        });
    }

    /// Notes that a packet has left with the next transport-wide number: the one place where such
    /// numbers are used up.
    #[inline]
    pub fn number(&mut self, now: Time, len: usize, probe: Option<u8>) {
        let sequence = self.next_transport_sequence;
        self.next_transport_sequence = sequence.wrapping_add(1);
        if let Some(path) = &mut self.path {
            path.estimator.on_packet(now, sequence, len, probe);
        }
    }

    /// What it may be sent now.
    pub fn budget(&mut self, now: Time) -> Budget {
        match &mut self.path {
            Some(path) => path.budget(now),
            None => Budget::fixed(u64::from(self.outgoing_bitrate_bps)),
        }
    }

    /// Changes its budget.
    pub fn set_outgoing_bitrate(&mut self, now: Time, bitrate_bps: u32) {
        self.outgoing_bitrate_bps = bitrate_bps;
        self.limit.set_budget(bitrate_bps);
        if let Some(path) = &mut self.path {
            path.estimator.set_max(now, f64::from(bitrate_bps));
        }
        self.set_pace();
    }

    /// Notes a datagram received.
    pub fn count_received(&mut self, len: usize) {
        self.received_counters.bytes_received += len as u64;
    }

    /// Notes a datagram sent that is no media.
    pub fn count_sent(&mut self, len: usize) {
        self.beside_bytes_sent += len as u64;
    }

    /// UDP payload bytes sent.
    fn bytes_sent(&self) -> u64 {
        self.counters.rtp_bytes_sent + self.beside_bytes_sent
    }

    /// Recent bits per second sent.
    pub fn send_bps(&self, now: Time) -> u32 {
        self.send_rate.bps(now, self.bytes_sent())
    }

    /// Ends one interval of the bitrates: to be called once a second.
    pub fn sample_rates(&mut self, now: Time) {
        self.receive_rate.sample(now, self.received_counters.bytes_received);
        self.send_rate.sample(now, self.bytes_sent());
    }

    /// Recent bits per second received.
    pub fn receive_bps(&self, now: Time) -> u32 {
        self.receive_rate.bps(now, self.received_counters.bytes_received)
    }

    /// The name of its SRTP profile, if it has keys.
    pub fn srtp_profile(&self) -> Option<&'static str> {
        self.srtp.as_ref()?.seal.profile().map(Profile::name)
    }

    /// Where RTCP goes.
    pub fn way_for_rtcp(&self) -> Option<Tuple> {
        let rtcp = self.plain.as_ref().and_then(|plain| plain.rtcp());
        self.destination.map(|destination| rtcp.unwrap_or(destination))
    }

    /// The transport's statistics.
    pub fn stats(&self, now: Time) -> TransportStats {
        TransportStats {
            bytes_received: self.received_counters.bytes_received,
            bytes_sent: self.bytes_sent(),
            rtp_bytes_received: self.received_counters.rtp_bytes_received,
            rtp_bytes_sent: self.counters.rtp_bytes_sent,
            rtp_packets_received: self.received_counters.rtp_packets_received,
            rtp_packets_sent: self.counters.rtp_packets_sent,
            recv_bitrate_bps: self.receive_bps(now),
            send_bitrate_bps: self.send_bps(now),
            available_outgoing_bps: self
                .path
                .as_ref()
                .map(|path| u32::try_from(path.estimator.target_bps()).unwrap_or(u32::MAX)),
            pacer_queue_ms: self
                .waiting
                .as_ref()
                .map_or(0, |waiting| waiting.takes(&self.pace).as_millis() as u32),
            unmatched_reports: self.path.as_ref().map_or(0, |path| path.estimator.unmatched()),
            remote: self.destination.map(|(address, _)| address),
            srtp_profile: self.srtp_profile(),
        }
    }
}
