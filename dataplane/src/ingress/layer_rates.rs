//! What the layers inside an encoding take (SVC): bits per second of each pair of a spatial and a
//! temporal layer, with all that it needs of lower ones.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::rtp::dependency_descriptor::Indication;
use opencall_wire::rtp::layers::{LayerFrame, SPATIAL_MAX, TEMPORAL_MAX};
use opencall_wire::rtp::payload::PayloadInfo;
use opencall_wire::time::Time;

use crate::rate::RateMeter;

/// What a spatial layer that has just begun is taken to need, as a multiple of the one below.
const STEP_BETWEEN_LAYERS: u32 = 3;

/// Time without a change of layers before one calls for an allocation at once: a sender may change
/// them with each packet, and all who get it would be looked at each time.
const NEWS_INTERVAL: Duration = Duration::from_millis(500);

/// Rates of one source, on one core. Takes 2.5 KiB.
#[derive(Debug, Clone)]
pub struct LayerRates {
    spatial_layers: u8,
    temporal_layers: u8,
    /// Since when it has these layers.
    since: Time,
    window: Duration,
    with_needed: [[RateMeter; TEMPORAL_MAX as usize]; SPATIAL_MAX as usize],
    /// Of each spatial layer's own frames: whether it comes.
    alone: [RateMeter; SPATIAL_MAX as usize],
    /// Bits per second of a whole window, when there last was one.
    known_bps: [[u32; TEMPORAL_MAX as usize]; SPATIAL_MAX as usize],
}

impl LayerRates {
    /// Of a source of which nothing has come.
    pub fn new(window: Duration) -> Self {
        let meter = || RateMeter::new(window);
        LayerRates {
            spatial_layers: 0,
            temporal_layers: 0,
            since: Time::ZERO,
            window,
            with_needed: std::array::from_fn(|_| std::array::from_fn(|_| meter())),
            alone: std::array::from_fn(|_| meter()),
            known_bps: Default::default(),
        }
    }

    /// Counts a packet of a frame; returns whether the stream has other layers than before, which
    /// calls for an allocation.
    pub fn add(&mut self, now: Time, info: &PayloadInfo, frame: &LayerFrame, bytes: usize) -> bool {
        let counts =
            (frame.spatial_layers.min(SPATIAL_MAX), frame.temporal_layers.clamp(1, TEMPORAL_MAX));
        let changed = counts != (self.spatial_layers, self.temporal_layers);
        let is_first = self.spatial_layers == 0;
        let is_news = changed && (is_first || now.since(self.since) >= NEWS_INTERVAL);
        if changed {
            (self.spatial_layers, self.temporal_layers) = counts;
            self.since = now;
        }
        for (spatial, meters) in (0..counts.0).zip(&mut self.with_needed) {
            for (temporal, meter) in (0..counts.1).zip(meters) {
                if frame.indications.of(spatial, temporal) != Indication::NotPresent {
                    meter.add(now, bytes);
                }
            }
        }
        if let Some(meter) = self.alone.get_mut(usize::from(info.spatial)) {
            meter.add(now, bytes);
        }
        is_news
    }

    /// Spatial layers that the sender sends.
    pub fn spatial_layers(&self) -> u8 {
        self.spatial_layers
    }

    /// Temporal layers.
    pub fn temporal_layers(&self) -> u8 {
        self.temporal_layers
    }

    /// Bits per second of a pair of layers with all they need; 0 where the spatial layer does not
    /// come: one that has just been told of is expected. `top_bps` is what was announced for the
    /// highest. Measured over a second: of what has begun within it, most is silence.
    pub fn bps(&mut self, now: Time, spatial: u8, temporal: u8, top_bps: Option<u32>) -> u32 {
        let (s, t) = (usize::from(spatial), usize::from(temporal));
        let is_expected = now.since(self.since) < self.window;
        if self.alone.get_mut(s).is_none_or(|meter| !is_expected && meter.bps(now) == 0) {
            return 0;
        }
        let Some(meter) = self.with_needed.get_mut(s).and_then(|meters| meters.get_mut(t)) else {
            return 0;
        };
        let bps = meter.bps(now).max(1);
        let known_bps = &mut self.known_bps[s][t];
        if meter.is_full() {
            *known_bps = bps;
            return bps;
        }
        let below = u32::from(self.spatial_layers.saturating_sub(spatial + 1));
        let announced = top_bps.map_or(0, |top| top / STEP_BETWEEN_LAYERS.pow(below.min(4)));
        bps.max(if *known_bps > 0 { *known_bps } else { announced })
    }
}
