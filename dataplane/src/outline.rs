//! What a core holds, told so that two cores can be compared.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::core::Core;
use crate::message::{ConsumerId, CoreId, ProducerId, TransportId};

/// All that control's commands have made of a core, without what packets have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// Transports.
    pub transports: BTreeMap<TransportId, TransportOutline>,
    /// Producers.
    pub producers: BTreeMap<ProducerId, ProducerOutline>,
    /// Consumers.
    pub consumers: BTreeMap<ConsumerId, ConsumerOutline>,
}

/// Of a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportOutline {
    /// Our user fragments that checks may carry.
    pub ufrags: BTreeSet<String>,
    /// Where media goes.
    pub destination: Option<SocketAddr>,
    /// The SRTP profile's name, once there are keys.
    pub profile: Option<&'static str>,
    /// Budget for what is sent, bits per second.
    pub outgoing_bitrate_bps: u32,
}

/// Of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerOutline {
    /// The transport it arrives on, at home.
    pub transport: Option<TransportId>,
    /// Whether it is paused.
    pub paused: bool,
    /// The cores that it is sent to.
    pub pipes: BTreeSet<CoreId>,
    /// How many encodings it has.
    pub encodings: usize,
}

/// Of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerOutline {
    /// The transport it leaves on.
    pub transport: TransportId,
    /// What it gets.
    pub producer: ProducerId,
    /// Whether it is paused.
    pub paused: bool,
    /// The highest encoding that its client wants.
    pub preferred: Option<u8>,
    /// Its weight.
    pub priority: u8,
    /// SSRC of its media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
}

impl Core {
    /// What it holds.
    pub fn outline(&self) -> Outline {
        let transports = self.transports.iter().map(|(_, transport)| {
            let outline = TransportOutline {
                ufrags: transport.ice.ufrags().map(str::to_owned).collect(),
                destination: transport.destination.map(|(address, _)| address),
                profile: transport.srtp_profile(),
                outgoing_bitrate_bps: transport.outgoing_bitrate_bps,
            };
            (transport.id, outline)
        });
        let producers = self.producers.iter().map(|(_, producer)| {
            let outline = ProducerOutline {
                transport: producer.transport.map(|key| self.transports[key].id),
                paused: producer.paused,
                pipes: producer.pipes.iter().copied().collect(),
                encodings: producer.encodings.len(),
            };
            (producer.id, outline)
        });
        let consumers = self.consumers.iter().map(|(_, consumer)| {
            let outline = ConsumerOutline {
                transport: self.transports[consumer.transport].id,
                producer: self.producers[consumer.producer].id,
                paused: consumer.paused,
                preferred: consumer.layers.preferred().map(|preferred| preferred.spatial),
                priority: consumer.priority,
                ssrc: consumer.ssrc,
                rtx_ssrc: consumer.rtx.as_ref().map(|rtx| rtx.ssrc),
            };
            (consumer.id, outline)
        });
        Outline {
            transports: transports.collect(),
            producers: producers.collect(),
            consumers: consumers.collect(),
        }
    }
}
