//! Others' traffic through the same queue.

use std::time::Duration;

use crate::tcp::Tcp;

/// Bytes of each packet of cross traffic.
pub const CROSS_PACKET_BYTES: usize = 1500;

/// One flow of cross traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cross {
    /// So many bits per second, whatever becomes of them.
    Udp {
        /// The rate.
        bps: u64,
    },
    /// TCP with no end of data.
    Tcp,
    /// TCP transfers of 100 kB to 1 MB, one after the other, with pauses of 10 s on average.
    TcpShort,
}

impl Cross {
    /// Reads `udp:500` (kbit/s), `tcp` or `tcp-short`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let kbps = text.strip_prefix("udp:").and_then(|kbps| kbps.parse::<u64>().ok());
        match (text, kbps) {
            ("tcp", _) => Ok(Cross::Tcp),
            ("tcp-short", _) => Ok(Cross::TcpShort),
            (_, Some(kbps @ 1..=10_000_000)) => Ok(Cross::Udp { bps: kbps * 1_000 }),
            _ => Err(format!("{text} is neither tcp nor tcp-short nor udp:KBPS as in udp:500")),
        }
    }
}

/// A flow with its state.
#[derive(Debug, Clone)]
pub(crate) enum Flow {
    Udp { gap: Duration, next: Duration, arrived: u64 },
    Tcp(Tcp),
}

impl Flow {
    /// One at its beginning; what comes back of it takes `delay`.
    pub fn new(cross: Cross, delay: Duration, seed: u64) -> Self {
        match cross {
            Cross::Udp { bps } => {
                let seconds = CROSS_PACKET_BYTES as f64 * 8.0 / bps.max(1) as f64;
                let gap = Duration::from_secs_f64(seconds);
                Flow::Udp { gap, next: Duration::ZERO, arrived: 0 }
            }
            Cross::Tcp => Flow::Tcp(Tcp::long(delay)),
            Cross::TcpShort => Flow::Tcp(Tcp::short(delay, seed)),
        }
    }

    /// Packets that came through.
    pub fn arrived(&self) -> u64 {
        match self {
            Flow::Udp { arrived, .. } => *arrived,
            Flow::Tcp(tcp) => tcp.arrived(),
        }
    }

    /// When it has something to do.
    pub fn next_due(&self) -> Option<Duration> {
        match self {
            Flow::Udp { next, .. } => Some(*next),
            Flow::Tcp(tcp) => tcp.next_due(),
        }
    }

    /// How many packets it sends now.
    pub fn poll(&mut self, now: Duration) -> usize {
        match self {
            Flow::Udp { gap, next, .. } => {
                *next += *gap;
                1
            }
            Flow::Tcp(tcp) => tcp.poll(now),
        }
    }

    /// One of them was sent: when it will arrive, if it does.
    pub fn on_sent(&mut self, now: Duration, arrival: Option<Duration>) {
        match self {
            Flow::Udp { arrived, .. } => *arrived += u64::from(arrival.is_some()),
            Flow::Tcp(tcp) => tcp.on_sent(now, arrival),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_by_their_names() {
        assert_eq!(Cross::parse("tcp"), Ok(Cross::Tcp));
        assert_eq!(Cross::parse("tcp-short"), Ok(Cross::TcpShort));
        assert_eq!(Cross::parse("udp:500"), Ok(Cross::Udp { bps: 500_000 }));
        for wrong in ["", "udp", "udp:", "udp:0", "udp:x", "sctp", "tcp:1"] {
            let said = Cross::parse(wrong).unwrap_err();
            assert!(said.contains("neither"), "{said}");
        }
    }
}
