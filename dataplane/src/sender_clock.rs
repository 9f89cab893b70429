//! What a sender report says of a stream's clock: one instant in both wall-clock time and RTP time.
//!
//! Worked trace at 90 kHz. A report says that NTP second 1000.0 was RTP 90 000. A frame of RTP
//! 135 000 was captured (135 000 − 90 000) / 90 000 = 0.5 s later, at 1000.5; and at 999.9 the RTP
//! clock stood at 90 000 − 9 000 = 81 000.
#![forbid(unsafe_code)]

use opencall_wire::time::NtpTime;

/// One instant on a sender's two clocks (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// The sender's wall clock.
    pub ntp: NtpTime,
    /// The stream's RTP clock at that instant.
    pub rtp: u32,
}

impl SenderClock {
    /// The wall-clock time at which the stream's clock shows `rtp`: within half its range, which at
    /// 90 kHz is 6.6 hours, of the report.
    pub fn ntp_at(&self, rtp: u32, clock_rate_hz: u32) -> NtpTime {
        let ticks = i128::from(rtp.wrapping_sub(self.rtp) as i32);
        let fractions = (ticks << 32) / i128::from(clock_rate_hz.max(1));
        NtpTime(self.ntp.0.wrapping_add(fractions as u64))
    }

    /// What the stream's clock shows at the wall-clock time `ntp`.
    pub fn rtp_at(&self, ntp: NtpTime, clock_rate_hz: u32) -> u32 {
        let fractions = i128::from(ntp.0.wrapping_sub(self.ntp.0) as i64);
        let scaled = fractions * i128::from(clock_rate_hz);
        // Rounded to the nearest tick, so that ntp_at and rtp_at undo each other.
        let ticks = (scaled + (1 << 31)) >> 32;
        self.rtp.wrapping_add(ticks as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_seconds(tenths: u64) -> NtpTime {
        NtpTime(((u128::from(tenths) << 32) / 10) as u64)
    }

    #[test]
    fn follows_the_worked_trace() {
        let clock = SenderClock { ntp: at_seconds(10_000), rtp: 90_000 };
        assert_eq!(clock.ntp_at(135_000, 90_000), at_seconds(10_005));
        assert_eq!(clock.rtp_at(at_seconds(9_999), 90_000), 81_000);
    }

    #[test]
    fn the_two_ways_undo_each_other_across_wraps() {
        for rate in [8_000, 48_000, 90_000] {
            let clock = SenderClock { ntp: NtpTime(u64::MAX - 5), rtp: 0xffff_fff0 };
            for rtp in [0, 1, 89_999, 0xffff_0000, 0xffff_fff0, 0x7fff_0000] {
                assert_eq!(clock.rtp_at(clock.ntp_at(rtp, rate), rate), rtp, "{rate} {rtp:#x}");
            }
        }
    }

    #[test]
    fn a_clock_rate_of_zero_is_survived() {
        let clock = SenderClock { ntp: NtpTime(0), rtp: 0 };
        assert_eq!(clock.rtp_at(clock.ntp_at(1 << 31, 0), 0), 0);
    }
}
