//! `opencall-bench floor`: what sealing and sending alone cost.
#![forbid(unsafe_code)]

use opencall_bench::floor::{self, FloorOptions};

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
}

/// Measures and prints.
///
/// # Errors
/// Why it cannot be measured.
pub fn run(args: &Args) -> Result<(), String> {
    let floor = floor::measure(&FloorOptions {
        packet_len: args.packet_bytes,
        train_segments: args.train,
        neighbour_share: args.neighbour / 100.0,
        ..FloorOptions::default()
    })?;
    println!("seal                {:6.0} ns per packet", floor.seal_ns_per_packet);
    println!("seal and send, {:4.1} {:6.0} ns per packet", args.train, floor.quiet_ns_per_packet);
    println!("seal and send,    1 {:6.0} ns per packet", floor.single_ns_per_packet);
    println!(
        "seal and send, {:4.1} {:6.0} ns per packet beside a neighbour that is busy for {:.0} %",
        args.train, floor.ns_per_packet, args.neighbour
    );
    Ok(())
}
