//! What control tells a data core, as bytes for the journal and back. Only the next process of the
//! same build reads it: nothing is named, and every change of it changes [`LAYOUT`].
//!
//! Of a checkpoint it says where in the memory that is.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::srtp::{KeyingMaterial, Profile};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::CallMemory;
use crate::message::{
    AcceptedPayloadType, Command, ConsumerConfig, ConsumerId, CoreId, EncodingConfig, Feedback,
    IceCredentials, Layers, Origin, PayloadTypeMapping, PlainLink, PlainRemote, ProducerConfig,
    ProducerId, SocketId, TransportConfig, TransportId,
};

/// Rises with each change of what is written here, or of the words of a checkpoint.
pub const LAYOUT: u64 = 1;

/// Something that can be written and read.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    /// `None` if this is not there.
    fn take(input: &mut &[u8]) -> Option<Self>;
}

fn read<T: Field>(input: &mut &[u8]) -> Option<T> {
    T::take(input)
}

macro_rules! numbers {
    ($($number:ty),+) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                Some(<$number>::from_le_bytes(*input.split_off(..size_of::<$number>())?.as_array()?))
            }
        }
    )+};
}

numbers!(u8, u16, u32, u64, u128);

macro_rules! fields {
    ($($of:ident { $($name:tt),+ })+) => {$(
        impl Field for $of {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$name.put(out);)+
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                Some($of { $($name: Field::take(input)?),+ })
            }
        }
    )+};
}

fields! {
    TransportId { 0 }
    ProducerId { 0 }
    ConsumerId { 0 }
    CoreId { 0 }
    SocketId { 0 }
    IceCredentials { ufrag, pwd }
    KeyingMaterial { profile, remote_key, remote_salt, local_key, local_salt }
    PlainRemote { rtp, rtcp }
    PlainLink { remote, rtcp_mux, keys }
    PayloadTypeMapping { incoming, incoming_rtx, router, codec, clock_rate_hz }
    EncodingConfig { rid, ssrc, rtx_ssrc, max_bitrate_bps }
    Feedback { nack, pli, fir, remb, transport_cc }
    AcceptedPayloadType { router, sent, rtx, red }
    Layers { spatial, temporal }
}

macro_rules! variants {
    ($($of:ident { $($name:ident = $number:literal),+ })+) => {$(
        impl Field for $of {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(match self {
                    $($of::$name => $number,)+
                    #[allow(unreachable_patterns)]
                    _ => u8::MAX,
                });
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                match u8::take(input)? {
                    $($number => Some($of::$name),)+
                    _ => None,
                }
            }
        }
    )+};
}

variants! {
    Profile { AeadAes128Gcm = 0, AeadAes256Gcm = 1, AesCm128HmacSha1_80 = 2 }
    MediaKind { Audio = 0, Video = 1 }
    Codec { Opus = 0, Red = 1, Vp8 = 2, Vp9 = 3, H264 = 4, Av1 = 5, Opaque = 6 }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(u8::take(input)? != 0)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(if bool::take(input)? { Some(T::take(input)?) } else { None })
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some((A::take(input)?, B::take(input)?))
    }
}

fn put_list<T: Field>(list: &[T], out: &mut Vec<u8>) {
    (list.len() as u32).put(out);
    list.iter().for_each(|value| value.put(out));
}

fn take_list<T: Field, L: FromIterator<T>>(input: &mut &[u8]) -> Option<L> {
    let count = u32::take(input)?;
    (0..count).map(|_| T::take(input)).collect()
}

impl<T: Field, const N: usize> Field for SmallVec<[T; N]>
where
    [T; N]: smallvec::Array<Item = T>,
{
    fn put(&self, out: &mut Vec<u8>) {
        put_list(self, out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        take_list(input)
    }
}

impl Field for Zeroizing<Vec<u8>> {
    fn put(&self, out: &mut Vec<u8>) {
        put_list(self, out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let length = u32::take(input)? as usize;
        Some(Zeroizing::new(input.split_off(..length)?.to_vec()))
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_list(self.as_bytes(), out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        String::from_utf8(take_list(input)?).ok()
    }
}

impl Field for SocketAddr {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            SocketAddr::V4(v4) => (4_u8, v4.ip().to_bits()).put(out),
            SocketAddr::V6(v6) => (6_u8, (v6.ip().to_bits(), v6.scope_id())).put(out),
        }
        self.port().put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        if u8::take(input)? == 4 {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(u32::take(input)?));
            return Some(SocketAddr::new(ip, u16::take(input)?));
        }
        let (ip, scope) = <(u128, u32)>::take(input)?;
        let v6 = SocketAddrV6::new(Ipv6Addr::from_bits(ip), u16::take(input)?, 0, scope);
        Some(SocketAddr::V6(v6))
    }
}

impl Field for ExtensionIds {
    fn put(&self, out: &mut Vec<u8>) {
        Extension::ALL.iter().for_each(|extension| self.id(*extension).unwrap_or(0).put(out));
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let mut ids = ExtensionIds::default();
        for extension in Extension::ALL {
            ids.set(extension, u8::take(input)?);
        }
        Some(ids)
    }
}

impl Field for Origin {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Origin::Transport(transport) => Some(*transport),
            Origin::Stage => None,
        }
        .put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(read::<Option<TransportId>>(input)?.map_or(Origin::Stage, Origin::Transport))
    }
}

/// What an entry is.
mod kind {
    pub const CREATE_TRANSPORT: u8 = 1;
    pub const CLOSE_TRANSPORT: u8 = 2;
    pub const RESTART_ICE: u8 = 3;
    pub const INSTALL_SRTP: u8 = 4;
    pub const CONNECT_PLAIN: u8 = 5;
    pub const SET_OUTGOING_BITRATE: u8 = 6;
    pub const CREATE_PRODUCER: u8 = 7;
    pub const CLOSE_PRODUCER: u8 = 8;
    pub const PAUSE_PRODUCER: u8 = 9;
    pub const RESUME_PRODUCER: u8 = 10;
    pub const SET_STAGE: u8 = 11;
    pub const MOVE_STAGE: u8 = 12;
    pub const OPEN_PIPE: u8 = 13;
    pub const CLOSE_PIPE: u8 = 14;
    pub const CREATE_CONSUMER: u8 = 15;
    pub const CLOSE_CONSUMER: u8 = 16;
    pub const PAUSE_CONSUMER: u8 = 17;
    pub const RESUME_CONSUMER: u8 = 18;
    pub const SET_PREFERRED_LAYERS: u8 = 19;
    pub const SET_PRIORITY: u8 = 20;
    pub const FORGET_CORE: u8 = 21;
}

/// An entry of the journal.
pub enum Entry {
    /// A core was told this.
    Told(CoreId, Command),
    /// A core is gone.
    Forgotten(CoreId),
}

/// Writes that a core is gone.
pub fn put_forgotten(core: CoreId, out: &mut Vec<u8>) {
    (kind::FORGET_CORE, core).put(out);
}

/// Writes what a core is told; nothing if that is not to be told again.
pub fn put(core: CoreId, command: &Command, memory: &CallMemory, out: &mut Vec<u8>) {
    let mut put = |kind: u8, value: &dyn Fn(&mut Vec<u8>)| {
        (kind, core).put(out);
        value(out);
    };
    match command {
        Command::CreateTransport(of) => {
            put(kind::CREATE_TRANSPORT, &|out| put_transport(of, memory, out));
        }
        Command::CloseTransport(id) => put(kind::CLOSE_TRANSPORT, &|out| id.put(out)),
        Command::RestartIce { transport, ice } => put(kind::RESTART_ICE, &|out| {
            transport.put(out);
            ice.put(out);
        }),
        Command::InstallSrtp { transport, keys } => put(kind::INSTALL_SRTP, &|out| {
            transport.put(out);
            keys.put(out);
        }),
        Command::ConnectPlain { transport, link } => put(kind::CONNECT_PLAIN, &|out| {
            transport.put(out);
            link.put(out);
        }),
        Command::SetOutgoingBitrate { transport, bitrate_bps } => {
            put(kind::SET_OUTGOING_BITRATE, &|out| (*transport, *bitrate_bps).put(out));
        }
        Command::SendDtls { .. }
        | Command::ProveTuple { .. }
        | Command::AttachLink { .. }
        | Command::DetachLink(_)
        | Command::RequestKeyFrame(_)
        | Command::QueryStats { .. }
        | Command::Shutdown => {}
        other => put_media(core, other, memory, out),
    }
}

fn put_media(core: CoreId, command: &Command, memory: &CallMemory, out: &mut Vec<u8>) {
    let mut put = |kind: u8, value: &dyn Fn(&mut Vec<u8>)| {
        (kind, core).put(out);
        value(out);
    };
    match command {
        Command::CreateProducer(of) => {
            put(kind::CREATE_PRODUCER, &|out| put_producer(of, memory, out));
        }
        Command::CloseProducer(id) => put(kind::CLOSE_PRODUCER, &|out| id.put(out)),
        Command::PauseProducer(id) => put(kind::PAUSE_PRODUCER, &|out| id.put(out)),
        Command::ResumeProducer(id) => put(kind::RESUME_PRODUCER, &|out| id.put(out)),
        Command::SetStage { stage, source, shown } => {
            put(kind::SET_STAGE, &|out| (*stage, (*source, *shown)).put(out));
        }
        Command::MoveStage { stage, home } => {
            put(kind::MOVE_STAGE, &|out| (*stage, *home).put(out));
        }
        Command::OpenPipe { producer, to } => {
            put(kind::OPEN_PIPE, &|out| (*producer, *to).put(out));
        }
        Command::ClosePipe { producer, to } => {
            put(kind::CLOSE_PIPE, &|out| (*producer, *to).put(out));
        }
        Command::CreateConsumer(of) => {
            put(kind::CREATE_CONSUMER, &|out| put_consumer(of, memory, out));
        }
        Command::CloseConsumer(id) => put(kind::CLOSE_CONSUMER, &|out| id.put(out)),
        Command::PauseConsumer(id) => put(kind::PAUSE_CONSUMER, &|out| id.put(out)),
        Command::ResumeConsumer(id) => put(kind::RESUME_CONSUMER, &|out| id.put(out)),
        Command::SetPreferredLayers { consumer, layers } => {
            put(kind::SET_PREFERRED_LAYERS, &|out| (*consumer, *layers).put(out));
        }
        Command::SetPriority { consumer, priority } => {
            put(kind::SET_PRIORITY, &|out| (*consumer, *priority).put(out));
        }
        _ => {}
    }
}

/// Reads an entry. Nothing comes of one whose checkpoint is not in the memory: its numbers would be
/// used twice. What depends on it finds nothing to depend on ([`crate::records`]).
pub fn take(mut input: &[u8], memory: &CallMemory) -> Option<Entry> {
    let input = &mut input;
    let (kind, core) = <(u8, CoreId)>::take(input)?;
    let command = match kind {
        kind::CREATE_TRANSPORT => {
            Command::CreateTransport(Box::new(take_transport(input, memory)?))
        }
        kind::CLOSE_TRANSPORT => Command::CloseTransport(Field::take(input)?),
        kind::RESTART_ICE => {
            Command::RestartIce { transport: Field::take(input)?, ice: Field::take(input)? }
        }
        kind::INSTALL_SRTP => Command::InstallSrtp {
            transport: Field::take(input)?,
            keys: Box::new(Field::take(input)?),
        },
        kind::CONNECT_PLAIN => Command::ConnectPlain {
            transport: Field::take(input)?,
            link: Box::new(Field::take(input)?),
        },
        kind::SET_OUTGOING_BITRATE => Command::SetOutgoingBitrate {
            transport: Field::take(input)?,
            bitrate_bps: Field::take(input)?,
        },
        kind::FORGET_CORE => return Some(Entry::Forgotten(core)),
        kind => take_media(kind, input, memory)?,
    };
    Some(Entry::Told(core, command))
}

fn take_media(kind: u8, input: &mut &[u8], memory: &CallMemory) -> Option<Command> {
    Some(match kind {
        kind::CREATE_PRODUCER => Command::CreateProducer(Box::new(take_producer(input, memory)?)),
        kind::CLOSE_PRODUCER => Command::CloseProducer(Field::take(input)?),
        kind::PAUSE_PRODUCER => Command::PauseProducer(Field::take(input)?),
        kind::RESUME_PRODUCER => Command::ResumeProducer(Field::take(input)?),
        kind::SET_STAGE => {
            let (stage, (source, shown)) = Field::take(input)?;
            Command::SetStage { stage, source, shown }
        }
        kind::MOVE_STAGE => {
            Command::MoveStage { stage: Field::take(input)?, home: Field::take(input)? }
        }
        kind::OPEN_PIPE => {
            Command::OpenPipe { producer: Field::take(input)?, to: Field::take(input)? }
        }
        kind::CLOSE_PIPE => {
            Command::ClosePipe { producer: Field::take(input)?, to: Field::take(input)? }
        }
        kind::CREATE_CONSUMER => Command::CreateConsumer(Box::new(take_consumer(input, memory)?)),
        kind::CLOSE_CONSUMER => Command::CloseConsumer(Field::take(input)?),
        kind::PAUSE_CONSUMER => Command::PauseConsumer(Field::take(input)?),
        kind::RESUME_CONSUMER => Command::ResumeConsumer(Field::take(input)?),
        kind::SET_PREFERRED_LAYERS => Command::SetPreferredLayers {
            consumer: Field::take(input)?,
            layers: Field::take(input)?,
        },
        kind::SET_PRIORITY => {
            Command::SetPriority { consumer: Field::take(input)?, priority: Field::take(input)? }
        }
        _ => return None,
    })
}

fn put_transport(of: &TransportConfig, memory: &CallMemory, out: &mut Vec<u8>) {
    let TransportConfig { id, ice, outgoing_bitrate_bps, data_channels, owner, checkpoint } = of;
    id.put(out);
    ice.put(out);
    (*outgoing_bitrate_bps, *data_channels).put(out);
    owner.put(out);
    memory.place_of_transport(checkpoint).put(out);
}

fn take_transport(input: &mut &[u8], memory: &CallMemory) -> Option<TransportConfig> {
    Some(TransportConfig {
        id: Field::take(input)?,
        ice: Field::take(input)?,
        outgoing_bitrate_bps: Field::take(input)?,
        data_channels: Field::take(input)?,
        owner: Field::take(input)?,
        checkpoint: memory.open_transport(read::<Option<u32>>(input)??)?,
    })
}

fn put_producer(of: &ProducerConfig, memory: &CallMemory, out: &mut Vec<u8>) {
    let ProducerConfig { id, origin, home, kind, mid, payload_types, encodings, .. } = of;
    let ProducerConfig { extensions, feedback, paused, checkpoint, .. } = of;
    id.put(out);
    origin.put(out);
    home.put(out);
    kind.put(out);
    mid.put(out);
    payload_types.put(out);
    encodings.put(out);
    extensions.put(out);
    feedback.put(out);
    paused.put(out);
    memory.place_of_producer(checkpoint).put(out);
}

fn take_producer(input: &mut &[u8], memory: &CallMemory) -> Option<ProducerConfig> {
    Some(ProducerConfig {
        id: Field::take(input)?,
        origin: Field::take(input)?,
        home: Field::take(input)?,
        kind: Field::take(input)?,
        mid: Field::take(input)?,
        payload_types: Field::take(input)?,
        encodings: Field::take(input)?,
        extensions: Field::take(input)?,
        feedback: Field::take(input)?,
        paused: Field::take(input)?,
        checkpoint: memory.open_producer(read::<Option<u32>>(input)??)?,
    })
}

fn put_consumer(of: &ConsumerConfig, memory: &CallMemory, out: &mut Vec<u8>) {
    let ConsumerConfig { id, transport, producer, mid, ssrc, rtx_ssrc, payload_types, .. } = of;
    let ConsumerConfig { cname, extensions, feedback, paused, preferred_layers, .. } = of;
    id.put(out);
    transport.put(out);
    producer.put(out);
    mid.put(out);
    ssrc.put(out);
    rtx_ssrc.put(out);
    payload_types.put(out);
    cname.put(out);
    extensions.put(out);
    feedback.put(out);
    paused.put(out);
    preferred_layers.put(out);
    memory.place_of_consumer(&of.checkpoint).put(out);
}

fn take_consumer(input: &mut &[u8], memory: &CallMemory) -> Option<ConsumerConfig> {
    Some(ConsumerConfig {
        id: Field::take(input)?,
        transport: Field::take(input)?,
        producer: Field::take(input)?,
        mid: Field::take(input)?,
        ssrc: Field::take(input)?,
        rtx_ssrc: Field::take(input)?,
        payload_types: Field::take(input)?,
        cname: Field::take(input)?,
        extensions: Field::take(input)?,
        feedback: Field::take(input)?,
        paused: Field::take(input)?,
        preferred_layers: Field::take(input)?,
        checkpoint: memory.open_consumer(read::<Option<u32>>(input)??)?,
    })
}
