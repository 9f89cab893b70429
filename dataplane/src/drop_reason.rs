//! Every packet that is not forwarded has a name here and a counter per core.
#![forbid(unsafe_code)]

use opencall_wire::srtp::{OpenError, SrtpError};
use opencall_wire::stun::StunError;

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $label:literal,)+) => {
        /// Why a packet went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// All reasons, in counter order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)+];

            /// The label of this reason in metrics and logs.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Datagram shorter than any packet of its class.
    TooShort => "too_short",
    /// First byte belongs to no class of RFC 7983, or the datagram exceeds a receive buffer.
    UnknownClass => "unknown_class",
    /// STUN message that does not parse, or lacks FINGERPRINT or a needed attribute.
    StunMalformed => "stun_malformed",
    /// STUN binding request for a user fragment that no transport owns.
    StunUnknownUfrag => "stun_unknown_ufrag",
    /// STUN binding request whose MESSAGE-INTEGRITY does not verify.
    StunBadIntegrity => "stun_bad_integrity",
    /// STUN check that was seen before, from another address: recorded and sent again.
    StunReplayed => "stun_replayed",
    /// STUN message that an ICE-lite agent has no use for.
    StunUnexpected => "stun_unexpected",
    /// DTLS, RTP or RTCP from an address that has passed no ICE check.
    AddressNotValidated => "address_not_validated",
    /// DTLS whose record headers are not those of DTLS, or say more bytes than there are.
    DtlsMalformed => "dtls_malformed",
    /// DTLS that no association waits for, or none that has its keys.
    DtlsUnneeded => "dtls_unneeded",
    /// DTLS records beyond what a transport may have waiting for the control core.
    DtlsFlood => "dtls_flood",
    /// RTP or RTCP before the transport has SRTP keys.
    NoSrtpKeys => "no_srtp_keys",
    /// RTP header that does not parse.
    RtpMalformed => "rtp_malformed",
    /// RED (RFC 2198) whose blocks exceed the packet, or whose own block is no Opus.
    RedMalformed => "red_malformed",
    /// RTCP that does not parse.
    RtcpMalformed => "rtcp_malformed",
    /// SRTP index seen before or older than the replay window.
    SrtpReplay => "srtp_replay",
    /// SRTP or SRTCP authentication failed.
    SrtpAuthFailed => "srtp_auth_failed",
    /// More authenticated SSRCs on a transport than it may have.
    SrtpTooManySsrcs => "srtp_too_many_ssrcs",
    /// More bits or packets than a producer or a transport may send.
    IngressRate => "ingress_rate",
    /// RTP that belongs to no producer (yet).
    NoProducer => "no_producer",
    /// RTP with a payload type the producer did not announce.
    UnknownPayloadType => "unknown_payload_type",
    /// Packet that was received before (same SSRC and sequence number).
    Duplicate => "duplicate",
    /// Late packet of a source whose stream goes on under another SSRC or other numbers.
    SourceReplaced => "source_replaced",
    /// A stream that begins anew more often than any sender has reason to.
    RestartFlood => "restart_flood",
    /// Packet of who is on stage, from before the stage took it.
    BeforeStage => "before_stage",
    /// Retransmission (RFC 4588) that repairs nothing.
    UselessRtx => "useless_rtx",
    /// Packet without payload: padding for probing.
    PaddingOnly => "padding_only",
    /// Media that waited in the socket while no core ran.
    Late => "late",
    /// The producer is paused.
    ProducerPaused => "producer_paused",
    /// A ring to another core was full.
    RingFull => "ring_full",
    /// A packet or request for a core to which there is no link.
    CoreNotLinked => "core_not_linked",
    /// More work waited for one destination than a turn may carry.
    PendingFull => "pending_full",
    /// The send arena of the turn was full.
    ArenaFull => "arena_full",
    /// The kernel's send buffer was full or it refused the packet.
    SendFailed => "send_failed",
    /// Pictures that would wait too long for their client's path, or have; those who watch them
    /// wait for the next key frame.
    Paced => "paced",
    /// Media beyond what a client's budget lets it be sent, of what cannot wait.
    EgressRate => "egress_rate",
    /// A viewer's request for a key frame, when it has had its share of them.
    KeyFrameBudget => "key_frame_budget",
    /// A NACK that asks for more packets than a client may ask for at once or in a second.
    NackFlood => "nack_flood",
    /// Transport-wide feedback beyond what one datagram may bring.
    FeedbackFlood => "feedback_flood",
    /// A NACK asked for a packet that history no longer holds.
    HistoryMiss => "history_miss",
    /// NACKs ask for more than retransmission may add to what a client is sent.
    ResendBudget => "resend_budget",
    /// A NACK of pictures while the core cannot keep up.
    Overload => "overload",
    /// STUN check from an address at which another transport's client was heard just now.
    AddressTaken => "address_taken",
    /// RTP or RTCP of a transport without ICE, from elsewhere than its client is.
    PlainElsewhere => "plain_elsewhere",
    /// More than may be sent to an address at which the client is not proven to be.
    AddressUnproven => "address_unproven",
    /// The consumer's transport has no selected address or keys yet.
    TransportNotReady => "transport_not_ready",
    /// A packet longer than any path of WebRTC carries, as it came or after rewriting.
    TooLarge => "too_large",
    /// A transport has sent 2^48 packets of an SSRC, or 2^31 of RTCP: its keys are used up.
    SrtpExhausted => "srtp_exhausted",
    /// From a client whose datagrams have killed a core twice.
    Quarantined => "quarantined",
    /// To be sent by a core that was taken for dead, in whose place another runs.
    CoreReplaced => "core_replaced",
    /// What should be there is not: a fault of ours.
    Internal => "internal",
}

impl From<SrtpError> for DropReason {
    fn from(error: SrtpError) -> Self {
        match error {
            SrtpError::BufferTooSmall { .. } | SrtpError::TooLong => DropReason::TooLarge,
            SrtpError::IndexExhausted => DropReason::SrtpExhausted,
            SrtpError::TakenOver => DropReason::CoreReplaced,
            _ => DropReason::Internal,
        }
    }
}

impl From<OpenError> for DropReason {
    #[inline]
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TooShort => DropReason::TooShort,
            OpenError::TooLong => DropReason::TooLarge,
            OpenError::Replay => DropReason::SrtpReplay,
            OpenError::AuthFailed => DropReason::SrtpAuthFailed,
            OpenError::TooManySsrcs => DropReason::SrtpTooManySsrcs,
        }
    }
}

impl From<StunError> for DropReason {
    fn from(error: StunError) -> Self {
        match error {
            StunError::Malformed => DropReason::StunMalformed,
            StunError::Unexpected => DropReason::StunUnexpected,
        }
    }
}

/// One counter per [`DropReason`].
#[derive(Debug, Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        DropCounters([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one drop.
    pub fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    /// Counts `n` drops.
    pub fn count_n(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How often `reason` happened.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Every reason that happened at least once.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.of(r))).filter(|&(_, n)| n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_counters_independent() {
        let mut labels: Vec<_> = DropReason::ALL.iter().map(|r| r.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());

        let mut counters = DropCounters::default();
        counters.count(DropReason::RingFull);
        counters.count_n(DropReason::TooLarge, 2);
        assert_eq!(counters.of(DropReason::RingFull), 1);
        assert_eq!(counters.iter().count(), 2);
    }
}
