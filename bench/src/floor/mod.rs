//! The floor: what sealing and sending the same packets costs with nothing else around it.
//!
//! A loop seals packets under the keys of many receivers and sends them in trains through the same
//! I/O backend as the server, to sockets that take whole trains, as the generator's does. What
//! arrives is thrown away, so that the receiving half that the loopback does within the sender's
//! call is counted, as it is in a run.
//!
//! In a run the generator works on the CPU beside the server's, and two CPUs may be one core's two
//! threads. So the floor is measured twice: with nobody else at work, and with a neighbour that is
//! as busy as the generator was and takes what arrives. The ratio is to the second.
//!
//! A loop without a pause is the cheapest way to send: it never sleeps, and its caches are warm. A
//! server has to wait for its packets. So there is a third: as many packets a second in as many
//! bursts, to as many receivers as in the run, each burst for one datagram that ends a sleep. What
//! a server takes beyond that is its own work: receiving the rest, opening, choosing, rewriting,
//! signaling.
#![forbid(unsafe_code)]

mod neighbour;
mod sender;

use std::time::Duration;

use neighbour::{Habits, Neighbour};
use sender::Sender;

use crate::result::Floor;
use crate::server::pin;

/// Receivers of the loop without a pause, each with keys and a port of its own.
const RECEIVERS: usize = 50;

/// Which packets, and on which CPUs.
#[derive(Debug, Clone, Default)]
pub struct FloorOptions {
    /// Bytes of a sealed packet.
    pub packet_len: usize,
    /// Packets of a train, on average.
    pub train_segments: f64,
    /// The CPUs to measure on; empty: any.
    pub cpus: Vec<usize>,
    /// The CPUs of the neighbour; empty: any.
    pub neighbour_cpus: Vec<usize>,
    /// How busy the neighbour is, 0 to 1.
    pub neighbour_share: f64,
    /// The pace of a server, for the third measurement.
    pub pace: Option<Pace>,
}

/// How a server sends: in bursts, between which it sleeps, to many receivers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Packets sent per second.
    pub packets_per_s: f64,
    /// Packets sent between two sleeps, on average.
    pub burst_packets: f64,
    /// Receivers.
    pub receivers: usize,
}

/// Measures, on a thread of its own.
///
/// # Errors
/// What the kernel says against the sockets or the CPUs.
pub fn measure(options: &FloorOptions) -> Result<Floor, String> {
    let options = options.clone();
    let measuring = std::thread::spawn(move || measure_here(&options));
    measuring.join().map_err(|_| "the floor's thread panicked".to_owned())?
}

fn measure_here(options: &FloorOptions) -> Result<Floor, String> {
    if !options.cpus.is_empty() {
        pin(&options.cpus)?;
    }
    let train_segments = options.train_segments.max(1.0);
    let mut sender = Sender::new(options.packet_len, RECEIVERS)?;
    let quiet_ns_per_packet = sender.time(train_segments)?;
    let single_ns_per_packet = sender.time(1.0)?;
    let seal_ns_per_packet = sender.time_seal();
    let ns_per_packet =
        beside_neighbour(&mut sender, options, None, |sender| sender.time(train_segments))?;
    let paced_ns_per_packet = options.pace.map(|pace| measure_paced(options, pace)).transpose()?;
    Ok(Floor {
        mean_packet_bytes: options.packet_len as f64,
        train_segments,
        ns_per_packet,
        quiet_ns_per_packet,
        neighbour_share: options.neighbour_share,
        single_ns_per_packet,
        seal_ns_per_packet,
        paced_ns_per_packet,
    })
}

fn measure_paced(options: &FloorOptions, pace: Pace) -> Result<f64, String> {
    let mut sender = Sender::new(options.packet_len, pace.receivers.max(1))?;
    let burst = pace.burst_packets.max(1.0);
    let interval = Duration::from_secs_f64(burst / pace.packets_per_s.max(1.0));
    beside_neighbour(&mut sender, options, Some(interval), |sender| {
        sender.time_paced(options.train_segments.max(1.0), burst)
    })
}

/// Measures beside a neighbour, which may wake the sender so often.
fn beside_neighbour(
    sender: &mut Sender,
    options: &FloorOptions,
    wakes: Option<Duration>,
    time: impl FnOnce(&mut Sender) -> Result<f64, String>,
) -> Result<f64, String> {
    let habits = Habits {
        cpus: options.neighbour_cpus.clone(),
        share: options.neighbour_share,
        wakes: sender.address().zip(wakes),
    };
    let neighbour = Neighbour::start(sender, habits);
    sender.drains = false;
    let timed = time(sender);
    neighbour.stop()?;
    timed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_with_a_neighbour_and_one_at_a_pace_are_measured_too() {
        let options = FloorOptions {
            packet_len: 300,
            train_segments: 2.5,
            neighbour_share: 0.3,
            pace: Some(Pace { packets_per_s: 5000.0, burst_packets: 10.0, receivers: 20 }),
            ..FloorOptions::default()
        };
        let floor = measure(&options).unwrap();
        assert!(floor.seal_ns_per_packet > 0.0);
        assert!(floor.quiet_ns_per_packet > floor.seal_ns_per_packet);
        assert!(floor.single_ns_per_packet > 0.0 && floor.ns_per_packet > 0.0);
        let paced = floor.paced_ns_per_packet.unwrap();
        assert!(paced > floor.seal_ns_per_packet, "{paced}");
    }
}
