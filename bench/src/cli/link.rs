//! `opencall-bench link`: a bad link between clients and a server.
//!
//! `down-rate-kbps 400` on its standard input gives the way to clients another bottleneck.
#![forbid(unsafe_code)]

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opencall_bench::link::{Relay, RelayConfig};

use super::link_flags::LinkFlags;
use super::path_flags::PathFlags;

/// What the relay does to packets.
#[derive(clap::Args)]
pub struct Args {
    /// Address that clients use in place of the server's (port 0: any; it is printed).
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server's media address.
    #[arg(long)]
    server: SocketAddr,
    #[command(flatten)]
    link: LinkFlags,
    #[command(flatten)]
    path: PathFlags,
    /// Writes what the link was each 10 ms, each way, as a table (CSV).
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Seed: the same seed treats the same packets the same way.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Relays until it is ended.
///
/// # Errors
/// Why it cannot.
pub fn run(args: &Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let config = args.path.relay(&args.link, args.seed)?;
    let log = match &args.log {
        Some(path) => {
            let file = File::create(path);
            Some(file.map_err(|error| format!("cannot write {}: {error}", path.display()))?)
        }
        None => None,
    };
    runtime.block_on(relay(args, config, log)).map_err(|error| {
        format!("cannot relay from {}: {error}; choose another --listen address", args.listen)
    })
}

async fn relay(args: &Args, config: RelayConfig, log: Option<File>) -> std::io::Result<()> {
    let mut relay = Relay::bind(args.listen, args.server, config)?;
    if let Some(file) = log {
        relay.log_to(file)?;
    }
    println!("relaying {} to {}", relay.local_addr()?, args.server);
    let down_rate = relay.down_rate();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match line.strip_prefix("down-rate-kbps ").map(str::parse::<u64>) {
                Some(Ok(kbps)) if kbps > 0 => down_rate.set(kbps.saturating_mul(1_000)),
                _ => eprintln!("\"{line}\": write down-rate-kbps and a number above 0"),
            }
        }
    });
    let counters = relay.counters();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            println!(
                "up {}/{} down {}/{} packets delivered/offered",
                read(&counters.up_delivered),
                read(&counters.up_offered),
                read(&counters.down_delivered),
                read(&counters.down_offered),
            );
        }
    });
    relay.run().await
}
