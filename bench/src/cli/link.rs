//! `opencall-bench link`: a bad link between clients and a server.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opencall_bench::impairment::LinkConfig;
use opencall_bench::link::{Relay, RelayConfig};

/// What the relay does to packets.
#[derive(clap::Args)]
pub struct Args {
    /// Address that clients use in place of the server's (port 0: any; it is printed).
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The server's media address.
    #[arg(long)]
    server: SocketAddr,
    /// Loss on the way to the server, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss_up: f64,
    /// Loss on the way to the client, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    loss_down: f64,
    /// Mean length of a loss burst, packets.
    #[arg(long, default_value_t = 1.0)]
    burst: f64,
    /// Delay each way, milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Jitter each way, milliseconds.
    #[arg(long, default_value_t = 0)]
    jitter_ms: u64,
    /// Bottleneck each way, kilobits per second; unlimited when absent.
    #[arg(long)]
    rate_kbps: Option<u64>,
    /// Queue at the bottleneck, kilobytes.
    #[arg(long, default_value_t = 64)]
    queue_kb: u64,
    /// Packets that take a longer way, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    reorder: f64,
    /// Packets that arrive twice, percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    duplicate: f64,
    /// Seed: the same seed treats the same packets the same way.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    fn direction(&self, loss_percent: f64) -> LinkConfig {
        LinkConfig {
            loss: loss_percent / 100.0,
            burst: self.burst,
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            rate_bps: self.rate_kbps.map(|kbps| kbps * 1000),
            queue_bytes: self.queue_kb * 1024,
            reorder: self.reorder / 100.0,
            duplicate: self.duplicate / 100.0,
            ..LinkConfig::default()
        }
    }
}

/// Relays until it is ended.
///
/// # Errors
/// Why it cannot.
pub fn run(args: &Args) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(relay(args)).map_err(|error| {
        format!("cannot relay from {}: {error}; choose another --listen address", args.listen)
    })
}

async fn relay(args: &Args) -> std::io::Result<()> {
    let config = RelayConfig {
        up: args.direction(args.loss_up),
        down: args.direction(args.loss_down),
        seed: args.seed,
    };
    let relay = Relay::bind(args.listen, args.server, config).await?;
    println!("relaying {} to {}", relay.local_addr()?, args.server);
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
