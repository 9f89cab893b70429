//! Every datagram that a core received was taken up or is a counted drop, and every one that it
//! sent is counted.
#![forbid(unsafe_code)]

use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::message::CoreStats;

/// Reasons that are counted for received datagrams only.
const OF_RECEIVED: [DropReason; 26] = [
    DropReason::TooShort,
    DropReason::UnknownClass,
    DropReason::StunMalformed,
    DropReason::StunUnknownUfrag,
    DropReason::StunBadIntegrity,
    DropReason::StunReplayed,
    DropReason::StunUnexpected,
    DropReason::AddressNotValidated,
    DropReason::AddressTaken,
    DropReason::DtlsMalformed,
    DropReason::DtlsUnneeded,
    DropReason::DtlsFlood,
    DropReason::NoSrtpKeys,
    DropReason::RtpMalformed,
    DropReason::RtcpMalformed,
    DropReason::SrtpReplay,
    DropReason::SrtpAuthFailed,
    DropReason::SrtpTooManySsrcs,
    DropReason::IngressRate,
    DropReason::PlainElsewhere,
    DropReason::NoProducer,
    DropReason::UnknownPayloadType,
    DropReason::Duplicate,
    DropReason::SourceReplaced,
    DropReason::UselessRtx,
    DropReason::PaddingOnly,
];

/// Reasons that are counted for received datagrams and for others.
const OF_BOTH: [DropReason; 4] = [
    DropReason::TooLarge,
    DropReason::ArenaFull,
    DropReason::AddressUnproven,
    DropReason::Internal,
];

/// Compares a core's counters with how many datagrams it was given and sent.
///
/// # Errors
/// They do not agree.
pub fn check(stats: &CoreStats, given: u64, sent: u64) -> Result<(), String> {
    let sum = |reasons: &[DropReason]| reasons.iter().map(|&r| stats.drops.of(r)).sum::<u64>();
    if stats.datagrams_received != given {
        return Err(format!("{given} datagrams given, {} received", stats.datagrams_received));
    }
    let refused = given - stats.datagrams_taken;
    let (least, both) = (sum(&OF_RECEIVED), sum(&OF_BOTH));
    if !(least..=least + both).contains(&refused) {
        let taken = stats.datagrams_taken;
        return Err(format!("{given} received = {taken} taken + {refused}, drops say {least}"));
    }
    if stats.datagrams_sent != sent {
        return Err(format!("{sent} datagrams sent, {} counted", stats.datagrams_sent));
    }
    let internal = stats.drops.of(DropReason::Internal);
    if internal > 0 { Err(format!("{internal} faults of the core's own")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_that_is_not_counted_is_found() {
        let (datagrams_received, datagrams_taken, datagrams_sent) = (10, 7, 4);
        let mut stats =
            CoreStats { datagrams_received, datagrams_taken, datagrams_sent, ..Default::default() };
        stats.drops.count_n(DropReason::Duplicate, 2);
        assert!(check(&stats, 10, 4).is_err());
        stats.drops.count(DropReason::NoProducer);
        // Of what was to be sent.
        stats.drops.count(DropReason::EgressRate);
        assert_eq!(check(&stats, 10, 4), Ok(()));
        assert!(check(&stats, 11, 4).is_err() && check(&stats, 10, 5).is_err());
        stats.drops.count(DropReason::StunReplayed);
        assert!(check(&stats, 10, 4).is_err());
    }
}
