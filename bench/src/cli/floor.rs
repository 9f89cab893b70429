//! `opencall-bench floor`: what sealing and sending alone cost.
#![forbid(unsafe_code)]

use opencall_bench::floor::{self, FloorOptions, Pace};

/// Which packets.
#[derive(clap::Args)]
pub struct Args {
    /// Bytes of a sealed packet.
    #[arg(long, default_value_t = 1100)]
    packet_bytes: usize,
    /// Packets of a train.
    #[arg(long, default_value_t = 6.0)]
    train: f64,
    /// How busy a neighbouring CPU is meanwhile, percent.
    #[arg(long, default_value_t = 50.0, value_name = "PERCENT")]
    neighbour: f64,
    /// Measures as well what it costs at a pace: so many packets per second.
    #[arg(long, requires = "burst", value_name = "PACKETS")]
    rate: Option<f64>,
    /// Packets sent between two sleeps, at a pace.
    #[arg(long, requires = "rate", value_name = "PACKETS")]
    burst: Option<f64>,
    /// Receivers, at a pace.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..))]
    receivers: u16,
}

/// Measures and prints.
///
/// # Errors
/// Why it cannot be measured.
pub fn run(args: &Args) -> Result<(), String> {
    for (name, value) in [("--rate", args.rate), ("--burst", args.burst)] {
        if let Some(value) = value.filter(|value| !(1.0..=1e9).contains(value)) {
            return Err(format!("{name} {value}: give a number of packets from 1 on"));
        }
    }
    let floor = floor::measure(&FloorOptions {
        packet_len: args.packet_bytes,
        train_segments: args.train,
        neighbour_share: args.neighbour / 100.0,
        pace: args.rate.zip(args.burst).map(|(packets_per_s, burst_packets)| Pace {
            packets_per_s,
            burst_packets,
            receivers: usize::from(args.receivers),
        }),
        ..FloorOptions::default()
    })?;
    println!("seal                {:6.0} ns per packet", floor.seal_ns_per_packet);
    println!("seal and send, {:4.1} {:6.0} ns per packet", args.train, floor.quiet_ns_per_packet);
    println!("seal and send,    1 {:6.0} ns per packet", floor.single_ns_per_packet);
    println!(
        "seal and send, {:4.1} {:6.0} ns per packet beside a neighbour that is busy for {:.0} %",
        args.train, floor.ns_per_packet, args.neighbour
    );
    if let Some(ns) = floor.paced_ns_per_packet {
        println!("the same at that pace {ns:4.0} ns per packet");
    }
    Ok(())
}
