//! What a probe says: the rate at which its packets arrived.
//!
//! Worked trace: four packets of 1000 bytes sent 10 ms apart arrive after 10, 40, 70 and 85 ms.
//! Sent at 3000 bytes in 30 ms, 800 kbit/s; received 3000 bytes in 75 ms, 320 kbit/s. That is less
//! than 0.9 of what was sent, so the link was full: the result is 0.95 · 320 = 304 kbit/s.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::time::Time;

use super::millis_between;
use super::probe::ProbeCluster;

/// So much of the packets and of the bytes must have arrived.
const ARRIVED: f64 = 0.80;
/// A cluster that arrived more than so many times faster than it was sent was held up on the way.
const FASTER_MAX: f64 = 2.0;
/// Below this part of the sending rate the link was full.
const UNSATURATED: f64 = 0.9;
/// Then so much of what arrived is used.
const UTILISATION: f64 = 0.95;
/// Longest time from the first to the last packet.
const SPAN_MAX_MS: f64 = 1_000.0;
/// A cluster is over when nothing of it arrived for so long.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(1);
/// Clusters looked at at once: as many as may be pending, and those on their way.
const CLUSTERS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Cluster {
    id: u8,
    needed_packets: u32,
    needed_bytes: u32,
    packets: u32,
    bytes: u32,
    first_sent: Time,
    last_sent: Time,
    last_sent_bytes: u32,
    first_arrived: Time,
    last_arrived: Time,
    first_arrived_bytes: u32,
}

/// Collects what arrived of each cluster.
#[derive(Debug, Clone, Default)]
pub struct ProbeResults {
    clusters: [Option<Cluster>; CLUSTERS],
}

impl ProbeResults {
    /// Expects packets of a cluster that begins now.
    pub fn expect(&mut self, probe: &ProbeCluster) {
        let free = self.clusters.iter().position(Option::is_none);
        let oldest = (0..CLUSTERS).min_by_key(|&index| self.last_arrived(index));
        let Some(index) = free.or(oldest) else { return };
        self.clusters[index] = Some(Cluster {
            id: probe.id,
            needed_packets: (f64::from(probe.min_packets) * ARRIVED) as u32,
            needed_bytes: (f64::from(probe.min_bytes) * ARRIVED) as u32,
            packets: 0,
            bytes: 0,
            first_sent: Time::NEVER,
            last_sent: Time::ZERO,
            last_sent_bytes: 0,
            first_arrived: Time::NEVER,
            last_arrived: Time::ZERO,
            first_arrived_bytes: 0,
        });
    }

    /// Takes a packet that arrived, and says the rate once enough did.
    pub fn on_packet(&mut self, id: u8, sent: Time, arrived: Time, bytes: u32) -> Option<f64> {
        self.forget_old(arrived);
        let cluster = self.clusters.iter_mut().flatten().find(|cluster| cluster.id == id)?;
        cluster.add(sent, arrived, bytes);
        cluster.rate_bps()
    }

    fn last_arrived(&self, index: usize) -> Time {
        self.clusters[index].map_or(Time::ZERO, |cluster| cluster.last_arrived)
    }

    fn forget_old(&mut self, arrived: Time) {
        for slot in &mut self.clusters {
            let over = |cluster: Cluster| {
                cluster.packets > 0 && arrived.since(cluster.last_arrived) > CLUSTER_TIMEOUT
            };
            if slot.is_some_and(over) {
                *slot = None;
            }
        }
    }
}

impl Cluster {
    fn add(&mut self, sent: Time, arrived: Time, bytes: u32) {
        self.first_sent = self.first_sent.min(sent);
        if sent > self.last_sent || self.packets == 0 {
            (self.last_sent, self.last_sent_bytes) = (sent, bytes);
        }
        if arrived < self.first_arrived {
            (self.first_arrived, self.first_arrived_bytes) = (arrived, bytes);
        }
        self.last_arrived = self.last_arrived.max(arrived);
        self.bytes = self.bytes.saturating_add(bytes);
        self.packets = self.packets.saturating_add(1);
    }

    fn rate_bps(&self) -> Option<f64> {
        if self.packets < self.needed_packets || self.bytes < self.needed_bytes {
            return None;
        }
        let sent_bps = span_rate_bps(
            self.bytes - self.last_sent_bytes,
            millis_between(self.last_sent, self.first_sent),
        )?;
        let arrived_bps = span_rate_bps(
            self.bytes - self.first_arrived_bytes,
            millis_between(self.last_arrived, self.first_arrived),
        )?;
        if arrived_bps > FASTER_MAX * sent_bps {
            None
        } else if arrived_bps < UNSATURATED * sent_bps {
            Some(UTILISATION * arrived_bps)
        } else {
            Some(sent_bps.min(arrived_bps))
        }
    }
}

fn span_rate_bps(bytes: u32, span_ms: f64) -> Option<f64> {
    (span_ms > 0.0 && span_ms <= SPAN_MAX_MS).then(|| f64::from(bytes) * 8e3 / span_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Probes(ProbeResults);

    impl Probes {
        /// Expects clusters 1 and 2.
        fn new(min_packets: u32, min_bytes: u32) -> Self {
            let mut results = ProbeResults::default();
            for id in [1, 2] {
                let probe = ProbeCluster { id, min_packets, min_bytes, ..ProbeCluster::default() };
                results.expect(&probe);
            }
            Probes(results)
        }

        /// Feeds (bytes, sent, arrived) and returns what the last one said.
        fn feed(&mut self, id: u8, packets: &[(u32, u64, u64)]) -> Option<f64> {
            let mut result = None;
            for &(bytes, sent, arrived) in packets {
                let time = |ms| Time::from_millis(1_000_000 + ms);
                result = self.0.on_packet(id, time(sent), time(arrived), bytes);
            }
            result.map(f64::round)
        }
    }

    #[test]
    fn the_reference_s_cases() {
        let all = |bytes, sent: [u64; 4], arrived: [u64; 4]| -> Vec<_> {
            sent.into_iter().zip(arrived).map(|(s, a)| (bytes, s, a)).collect()
        };
        let steady = [0, 10, 20, 30];
        for (name, packets, expected) in [
            ("one cluster", all(1000, steady, [10, 20, 30, 40]), Some(800_000.0)),
            ("too few packets", all(2000, steady, [10, 20, 30, 40])[..3].to_vec(), None),
            ("fast", all(1000, steady, [15, 30, 35, 40]), Some(800_000.0)),
            ("too fast", all(1000, [0, 10, 20, 40], [19, 22, 25, 27]), None),
            ("slow", all(1000, steady, [10, 40, 70, 85]), Some(304_000.0)),
            ("all at once", all(1000, [0, 10, 20, 40], [50, 50, 50, 50]), None),
        ] {
            assert_eq!(Probes::new(5, 5000).feed(1, &packets), expected, "{name}");
        }
    }

    #[test]
    fn bytes_and_sizes_of_clusters() {
        let train = |bytes, count: u64| -> Vec<_> {
            (0..count).map(|i| (bytes, i * 10, i * 10 + 10)).collect()
        };
        assert_eq!(Probes::new(5, 6000).feed(1, &train(800, 5)), None, "too few bytes");
        assert_eq!(Probes::new(5, 1000).feed(1, &train(150, 6)), Some(120_000.0), "small");
        let large: Vec<_> = (0..25).map(|i| (12_500, i, i + 5)).collect();
        assert_eq!(Probes::new(30, 312_500).feed(1, &large), Some(100_000_000.0), "large");
    }

    #[test]
    fn the_last_sent_and_the_first_received_do_not_count() {
        let mut packets = vec![(1000, 0, 10), (1000, 10, 20), (1000, 20, 30), (1000, 30, 40)];
        packets.push((1500, 40, 50));
        assert_eq!(Probes::new(5, 5000).feed(1, &packets), Some(800_000.0));
        packets.pop();
        packets[0].0 = 1500;
        assert_eq!(Probes::new(5, 5000).feed(1, &packets), Some(760_000.0));
    }

    #[test]
    fn clusters_are_apart_and_end() {
        let mut probes = Probes::new(5, 5000);
        let first = [(1000, 0, 10), (1000, 10, 20), (1000, 20, 30), (1000, 40, 60)];
        assert_eq!(probes.feed(1, &first), Some(456_000.0));
        assert_eq!(probes.feed(1, &[(1000, 50, 60)]), Some(640_000.0));
        let second = [(1000, 60, 70), (1000, 65, 77), (1000, 70, 84), (1000, 75, 90)];
        assert_eq!(probes.feed(2, &second), Some(1_140_000.0));
        assert_eq!(probes.feed(1, &[(1000, 6040, 6060)]), None);
    }

    #[test]
    fn unknown_clusters_and_too_many() {
        let mut results = ProbeResults::default();
        assert_eq!(results.on_packet(9, Time::ZERO, Time::ZERO, 1), None);
        for id in 0..=255 {
            let probe = ProbeCluster { id, ..ProbeCluster::default() };
            results.expect(&probe);
            results.on_packet(id, Time::NEVER, Time::ZERO, u32::MAX);
            results.on_packet(id, Time::ZERO, Time::NEVER, u32::MAX);
        }
    }
}
