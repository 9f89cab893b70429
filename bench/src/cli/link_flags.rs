//! Flags that describe a bad link.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_emulator::{Bursts, LinkConfig, QueueLimit};

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
    /// Queue at the bottleneck as the time that it takes to send it, in place of kilobytes.
    #[arg(long, conflicts_with = "queue_kb")]
    queue_ms: Option<u64>,
    /// Beside other loss, the link turns bad now and then: the chance of it with each packet.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    bad_begin: f64,
    /// The chance with each packet that a link which is bad turns good.
    #[arg(long, default_value_t = 20.0, value_name = "PERCENT")]
    bad_end: f64,
    /// Loss while the link is bad.
    #[arg(long, default_value_t = 50.0, value_name = "PERCENT")]
    bad_loss: f64,
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
        let bursts = Bursts {
            begin: self.bad_begin / 100.0,
            end: self.bad_end / 100.0,
            loss: self.bad_loss / 100.0,
        };
        let time = |ms| QueueLimit::Time(Duration::from_millis(ms));
        LinkConfig {
            loss: loss_percent / 100.0,
            burst: self.burst,
            bursts: Some(bursts).filter(|bursts| bursts.begin > 0.0),
            delay: Duration::from_millis(self.delay_ms),
            jitter: Duration::from_millis(self.jitter_ms),
            rate_bps: self.rate_kbps.map(|kbps| kbps * 1000),
            queue: self.queue_ms.map_or(QueueLimit::Bytes(self.queue_kb * 1024), time),
            reorder: self.reorder / 100.0,
            duplicate: self.duplicate / 100.0,
            ..LinkConfig::default()
        }
    }
}
