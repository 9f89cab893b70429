//! RTP from a client: open, recognise, undo retransmission, account, fan out.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use opencall_io::SocketId;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::extension::{Extension, ExtensionSpans, parse_audio_level};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::Time;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::fanout::PacketRef;
use crate::fanout::links::PipeMessage;
use crate::ingress::packet::MediaPacket;
use crate::ingress::producer::HomeEncoding;
use crate::ingress::receive_stats::ArrivalKind;
use crate::ingress::stream_table::{Identity, PayloadType, StreamRef};
use crate::message::Event;
use crate::plain::Flow;
use crate::store::{ProducerKey, TransportKey};

impl Core {
    pub(crate) fn on_rtp(
        &mut self,
        now: Time,
        at: PacketRef,
        bytes: &mut [u8],
        source: SocketAddr,
        socket: SocketId,
    ) -> Result<(), DropReason> {
        let owner = self.validated(source, socket)?;
        let key = owner.transport();
        let header = RtpHeader::parse(bytes).ok_or(DropReason::RtpMalformed)?;
        let transport = &mut self.transports[key];
        let srtp = transport.srtp.as_mut().ok_or(DropReason::NoSrtpKeys)?;
        let header_len = usize::from(header.header_len);
        let opened = srtp.open.open_rtp(bytes, header.ssrc, header.sequence, header_len)?;

        transport.count_received(bytes.len());
        if !transport.received.admit(now, bytes.len()) {
            return Err(DropReason::IngressRate);
        }
        transport.received_counters.rtp_packets_received += 1;
        transport.received_counters.rtp_bytes_received += opened.len as u64;
        let bytes = &bytes[..opened.len];
        let extensions = ExtensionSpans::parse(bytes, &header, &transport.incoming_extensions);
        if !owner.proven {
            self.on_proof(now, key, (source, socket), Flow::Rtp);
        }
        self.note_transport_arrival(now, key, &extensions, bytes);

        let stream = self.recognise(now, key, &header, &extensions, bytes)?;
        let streams = &self.transports[key].streams;
        let payload_type = streams
            .payload_type(stream.producer, header.payload_type)
            .ok_or(DropReason::UnknownPayloadType)?;
        let packet = self.account(now, key, stream, payload_type, header, extensions, bytes)?;
        if payload_type.mapping.codec == Codec::Red {
            return self.on_red(now, (key, stream), at, packet, bytes);
        }
        self.forward(now, stream.producer, at, &packet, bytes);
        Ok(())
    }

    /// Transport-wide feedback counts every authentic packet, whatever becomes of it.
    fn note_transport_arrival(
        &mut self,
        now: Time,
        key: TransportKey,
        extensions: &ExtensionSpans,
        bytes: &[u8],
    ) {
        let transport = &mut self.transports[key];
        if !transport.sends_transport_cc {
            return;
        }
        if let Some(&[high, low]) = extensions.of(Extension::TransportCc, bytes) {
            transport.arrivals.on_packet(now, u16::from_be_bytes([high, low]));
            let due = transport.arrivals.next_timeout();
            self.schedule(key, due);
        }
    }

    fn recognise(
        &mut self,
        now: Time,
        key: TransportKey,
        header: &RtpHeader,
        extensions: &ExtensionSpans,
        bytes: &[u8],
    ) -> Result<StreamRef, DropReason> {
        let mid = extensions.of(Extension::Mid, bytes);
        let streams = &self.transports[key].streams;
        let has_rid = extensions.has(Extension::Rid) || extensions.has(Extension::RepairedRid);
        if !has_rid && let Some(stream) = streams.settled_by_mid(header.ssrc, mid) {
            return Ok(stream);
        }
        let identity = Identity {
            mid,
            rid: extensions.of(Extension::Rid, bytes),
            repaired_rid: extensions.of(Extension::RepairedRid, bytes),
        };
        match streams.settled(header.ssrc, identity) {
            Some(stream) => Ok(stream),
            None => self.place_ssrc(now, key, header, identity),
        }
    }

    /// Assigns an SSRC that is new, or whose packet may name another stream.
    #[cold]
    fn place_ssrc(
        &mut self,
        now: Time,
        key: TransportKey,
        header: &RtpHeader,
        identity: Identity<'_>,
    ) -> Result<StreamRef, DropReason> {
        let streams = &self.transports[key].streams;
        let from = streams.known(header.ssrc);
        let payload_type = header.payload_type;
        let to = match from {
            Some(from) => match streams.moved(from, payload_type, identity)? {
                Some(to) => to,
                None => return Ok(from),
            },
            None => streams.identify(payload_type, identity).ok_or(DropReason::NoProducer)?,
        };
        let home = self.home_of(to).ok_or(DropReason::NoProducer)?;
        if !to.rtx {
            home.check_restart(now, header)?;
        }
        if let Some(from) = from {
            self.leave_stream(now, key, header.ssrc, from);
        }
        self.begin_stream(now, key, header.ssrc, to);
        Ok(to)
    }

    pub(super) fn home_of(&mut self, stream: StreamRef) -> Option<&mut HomeEncoding> {
        let encodings = &mut self.producers.get_mut(stream.producer)?.encodings;
        encodings.get_mut(usize::from(stream.encoding))?.home.as_deref_mut()
    }

    /// Assigns an SSRC to a stream; the one it had before is retired.
    fn begin_stream(&mut self, now: Time, key: TransportKey, ssrc: u32, stream: StreamRef) {
        let Some(home) = self.home_of(stream) else { return };
        let old = if stream.rtx { home.rtx_ssrc } else { home.source.ssrc };
        let transport = &mut self.transports[key];
        transport.streams.learn(ssrc, stream);
        if let (Some(old), Some(srtp)) = (old.filter(|&old| old != ssrc), &mut transport.srtp) {
            // The old SSRC makes room.
            srtp.open.retire(old);
        }
        if stream.rtx {
            let checkpoint = &self.producers[stream.producer].checkpoint;
            if let Some(encoding) = checkpoint.encoding(stream.encoding) {
                encoding.note_rtx(ssrc);
            }
            return;
        }
        transport.media_ssrc = ssrc;
        let encodings = &mut self.producers[stream.producer].encodings;
        let Some(encoding) = encodings.get_mut(usize::from(stream.encoding)) else { return };
        let due = match old {
            Some(old) if old != ssrc => encoding.go_on_with(now, Some(ssrc)),
            Some(_) => Time::NEVER,
            None => encoding.ask_anew(now),
        };
        self.schedule(key, due);
    }

    /// Takes an SSRC from a stream: NACK, PLI and reports of that stream no longer name it.
    pub(crate) fn leave_stream(
        &mut self,
        now: Time,
        key: TransportKey,
        ssrc: u32,
        stream: StreamRef,
    ) {
        let Some(home) = self.home_of(stream) else { return };
        if stream.rtx {
            home.rtx_ssrc = home.rtx_ssrc.filter(|&held| held != ssrc);
            return;
        }
        if home.source.ssrc != Some(ssrc) {
            return;
        }
        let index = usize::from(stream.encoding);
        let due = self.producers[stream.producer].encodings[index].go_on_with(now, None);
        self.schedule(key, due);
        self.pipe_source(stream.producer, index);
    }

    /// Statistics, loss detection and the undoing of RTX; what is left is the media packet.
    #[allow(clippy::too_many_arguments, reason = "the pieces of one packet, parsed once")]
    fn account(
        &mut self,
        now: Time,
        key: TransportKey,
        stream: StreamRef,
        payload_type: PayloadType,
        mut header: RtpHeader,
        extensions: ExtensionSpans,
        bytes: &[u8],
    ) -> Result<MediaPacket, DropReason> {
        let payload = header.payload_range(bytes).ok_or(DropReason::RtpMalformed)?;
        let (mut start, end) = (payload.start, payload.end);
        let producer = &mut self.producers[stream.producer];
        if !producer.received.admit(now, bytes.len()) {
            return Err(DropReason::IngressRate);
        }
        let encoding = producer.encodings.get_mut(usize::from(stream.encoding));
        let encoding = encoding.ok_or(DropReason::NoProducer)?;
        let mut home = encoding.home.as_deref_mut().ok_or(DropReason::NoProducer)?;
        let is_rtx = stream.rtx || payload_type.rtx;
        let mut arrival = if is_rtx {
            home.rtx_ssrc = Some(header.ssrc);
            header.sequence = original_sequence(&bytes[start..end])?;
            start += 2;
            home.source.receive.on_repaired(header.sequence)
        } else {
            home.source.ssrc = Some(header.ssrc);
            home.packets += 1;
            home.bytes += bytes.len() as u64;
            home.source.receive.on_packet(now, header.sequence, header.timestamp)
        };
        let mut due = Time::NEVER;
        match arrival.kind {
            ArrivalKind::Duplicate if is_rtx => return Err(DropReason::UselessRtx),
            ArrivalKind::Duplicate => return Err(DropReason::Duplicate),
            ArrivalKind::Restart => {
                home.check_restart(now, &header)?;
                due = encoding.go_on_with(now, Some(header.ssrc));
                home = encoding.home.as_deref_mut().ok_or(DropReason::NoProducer)?;
                arrival = home.source.receive.on_packet(now, header.sequence, header.timestamp);
            }
            ArrivalKind::New | ArrivalKind::Reordered => {}
        }
        let source = &mut home.source;
        if producer.feedback.nack {
            source.nack.on_packet(now, arrival.extended);
        }
        header.payload_type = payload_type.mapping.router;
        let codec = payload_type.mapping.codec;
        let descriptor = extensions.of(Extension::DependencyDescriptor, bytes);
        let info = source.describe(now, codec, &bytes[start..end], &header, descriptor);
        due = due.min(source.nack.next_timeout());
        if info.key_frame {
            source.nack.on_key_frame(arrival.extended);
        }
        let packet = MediaPacket {
            header,
            extensions,
            payload_start: start as u16,
            payload_end: end as u16,
            info,
            sequence: arrival.extended,
            encoding: stream.encoding,
            source: encoding.source.id,
        };
        self.schedule(key, due);
        Ok(packet)
    }

    /// Hands a packet on: to observers, to this core's consumers, to other cores.
    pub(super) fn forward(
        &mut self,
        now: Time,
        key: ProducerKey,
        at: PacketRef,
        packet: &MediaPacket,
        bytes: &[u8],
    ) {
        let producer = &mut self.producers[key];
        producer.leave_word(now, packet);
        if producer.paused {
            self.stats.drops.count(DropReason::ProducerPaused);
            return;
        }
        if self.backlog.waits() && matches!(at, PacketRef::Received(_)) {
            self.stats.drops.count(DropReason::Late);
            return;
        }
        if producer.kind == MediaKind::Audio
            && let Some(level) = packet.extensions.of(Extension::AudioLevel, bytes)
            && let Some(level) = parse_audio_level(level)
            && let Some(levels_dbov) = producer.level.note(now, level.level)
        {
            self.events.push_back(Event::AudioLevel { producer: producer.id, levels_dbov });
        }
        self.hand_on(now, key, at, packet, bytes);
    }

    /// Hands a packet to other cores, to this core's consumers, and to the stage.
    #[inline]
    pub(crate) fn hand_on(
        &mut self,
        now: Time,
        key: ProducerKey,
        at: PacketRef,
        packet: &MediaPacket,
        bytes: &[u8],
    ) {
        for index in 0..self.producers[key].pipes.len() {
            let (to, id) = (self.producers[key].pipes[index], self.producers[key].id);
            let message = PipeMessage::Packet { producer: id, packet: *packet };
            match self.links.send(to, message, &bytes[..packet.payload().end]) {
                Ok(()) => self.stats.packets_piped += 1,
                Err(reason) => self.stats.drops.count(reason),
            }
        }
        if self.spread(now, key, at, packet) {
            self.producers[key].remember(now, packet, bytes);
        }
        if !self.producers[key].stages.is_empty() {
            self.spread_on_stage(now, key, at, packet, bytes);
        }
    }

    /// Hands a packet to this core's consumers, wherever it comes from. Returns whether there is
    /// any.
    pub(crate) fn spread(
        &mut self,
        now: Time,
        key: ProducerKey,
        at: PacketRef,
        packet: &MediaPacket,
    ) -> bool {
        if self.producers[key].observe(now, packet) {
            self.on_encodings_changed(now, key);
        }
        self.fan_out(key, at, packet)
    }
}

/// The sequence number with which the payload of a retransmission begins (RFC 4588 section 4).
/// Chromium probes bandwidth with RTX packets of nothing but padding.
fn original_sequence(payload: &[u8]) -> Result<u16, DropReason> {
    let number = payload.first_chunk().ok_or(DropReason::PaddingOnly)?;
    Ok(u16::from_be_bytes(*number))
}
