//! Flags that describe a bad link.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_bench::impairment::LinkConfig;

/// What a link does to packets, each way alike but for the loss.
#[derive(clap::Args)]
pub struct LinkFlags {
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
}

impl LinkFlags {
    /// The way to the server.
    pub fn up(&self) -> LinkConfig {
        self.direction(self.loss_up)
    }

    /// The way to the client.
    pub fn down(&self) -> LinkConfig {
        self.direction(self.loss_down)
    }

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
