//! Input: a script for a client of an association that has shaken hands. Each step is a byte that
//! says what it is, and what it takes. What the client writes has a good checksum, and numbers near
//! those that are expected, so that it is looked at.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_control::MAX_MESSAGE_BYTES;
use opencall_control::sctp::{Association, DataMessage, Received, Reliability, SctpOutput};
use opencall_wire::dcep::Dcep;
use opencall_wire::time::Time;

use crate::input::Input;

/// Steps of one script: each may be a packet of the largest size.
const MAX_STEPS: usize = 300;

/// Packets that one packet, one message or one time-out may cause: a window of a mebibyte.
const MAX_PACKETS: usize = 2_000;

/// Messages that may wait to be read: a window of them at 64 bytes each.
const MAX_READY: usize = 16 * 1024;

/// Bytes of an SCTP packet.
const MAX_PACKET_BYTES: usize = 1_200;

/// Plays the script; what must be true is looked at after each step.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut talk = Talk::new();
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        match input.below(9) {
            0 => talk.pass(Duration::from_millis(input.u16().into())),
            1 => talk.say(&mut input),
            2 => talk.exchange(),
            3 => talk.read(),
            4 => talk.answer(&mut input),
            5 => talk.server.reset(input.u16()),
            6 => talk.raw(input.bytes()),
            _ => talk.chunks(&mut input),
        }
        talk.look();
    }
    talk.pass(Duration::from_secs(3));
    talk.read();
    talk.look();
}

struct Talk {
    now: Time,
    client: Association,
    server: Association,
    /// Ports and the server's verification tag, as the client writes them.
    header: [u8; 8],
    /// The first TSN of each.
    client_tsn: u32,
    server_tsn: u32,
    to_client: Vec<Vec<u8>>,
}

impl Talk {
    fn new() -> Self {
        let now = Time::from_millis(1);
        let mut talk = Talk {
            now,
            client: Association::connecting(now),
            server: Association::new(now),
            header: [0; 8],
            client_tsn: 0,
            server_tsn: 0,
            to_client: Vec::new(),
        };
        talk.exchange();
        assert!(talk.server.is_connected() && talk.client.is_connected());
        talk
    }

    /// Carries packets both ways, for as long as a full window of them would take.
    fn exchange(&mut self) {
        for _ in 0..MAX_PACKETS {
            let mut is_silent = true;
            while let Some(output) = self.client.poll_output() {
                let SctpOutput::Packet(packet) = output else { continue };
                is_silent = false;
                self.learn(&packet, true);
                self.server.handle_packet(self.now, &packet);
            }
            self.drain();
            for packet in std::mem::take(&mut self.to_client) {
                is_silent = false;
                self.learn(&packet, false);
                self.client.handle_packet(self.now, &packet);
            }
            while self.client.next_message().is_some() {}
            if is_silent {
                return;
            }
        }
    }

    /// Tags and first TSNs are in INIT and INIT ACK (RFC 9260 section 3.3.2).
    fn learn(&mut self, packet: &[u8], by_client: bool) {
        const INIT: u8 = 1;
        const INIT_ACK: u8 = 2;
        let word = |at: usize| packet.get(at..at + 4).and_then(|word| word.first_chunk().copied());
        let tsn = word(28).map(u32::from_be_bytes).unwrap_or_default();
        match packet.get(12) {
            Some(&INIT) if by_client => self.client_tsn = tsn,
            Some(&INIT_ACK) if !by_client => self.server_tsn = tsn,
            _ => {}
        }
        if by_client && let Some(header) = packet.first_chunk() {
            self.header = *header;
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.server.handle_timeout(self.now);
        self.client.handle_timeout(self.now);
    }

    /// The client says something as it should.
    fn say(&mut self, input: &mut Input<'_>) {
        let (stream, len) = (input.u16() % 8, usize::from(input.u16()) % 4_096);
        let message = DataMessage { is_text: len.is_multiple_of(2), bytes: vec![7; len] };
        self.client.send(stream, &message, reliability(input.byte()));
    }

    /// So does the server.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (stream, len) = (input.u16() % 8, usize::from(input.u16()) % 4_096);
        let message = DataMessage { is_text: false, bytes: vec![9; len] };
        self.server.send(stream, &message, reliability(input.byte()));
    }

    /// Any packet.
    fn raw(&mut self, packet: &[u8]) {
        self.server.handle_packet(self.now, packet);
    }

    /// A packet of chunks that are looked at.
    fn chunks(&mut self, input: &mut Input<'_>) {
        let mut packet = self.header.to_vec();
        packet.extend([0; 4]);
        for _ in 0..=input.below(6) {
            let chunk = self.chunk(input);
            if packet.len() + chunk.len() <= MAX_PACKET_BYTES {
                packet.extend(chunk);
            }
        }
        seal(&mut packet);
        self.server.handle_packet(self.now, &packet);
    }

    fn chunk(&self, input: &mut Input<'_>) -> Vec<u8> {
        const DATA: u8 = 0;
        const SACK: u8 = 3;
        const RE_CONFIG: u8 = 130;
        const FORWARD_TSN: u8 = 192;
        let near = |base: u32, input: &mut Input<'_>| base.wrapping_add(input.byte().into());
        let mut body = Vec::new();
        let (kind, flags) = match input.below(6) {
            0 => {
                let flags = input.byte();
                body.extend(near(self.client_tsn, input).to_be_bytes());
                body.extend(input.take(4));
                body.extend(u32::from(input.byte()).to_be_bytes());
                body.extend(input.bytes());
                (DATA, flags)
            }
            1 => {
                body.extend(near(self.client_tsn, input).to_be_bytes());
                body.extend(input.bytes());
                (FORWARD_TSN, 0)
            }
            2 => {
                // An outgoing reset request (RFC 6525 section 4.1).
                let streams = input.bytes();
                let len = u16::try_from(16 + streams.len()).unwrap_or(16);
                body.extend([0, 13]);
                body.extend(len.to_be_bytes());
                body.extend(near(self.client_tsn, input).to_be_bytes());
                body.extend(near(self.server_tsn, input).to_be_bytes());
                body.extend(near(self.client_tsn, input).to_be_bytes());
                body.extend(streams);
                (RE_CONFIG, 0)
            }
            3 => {
                body.extend(near(self.server_tsn, input).wrapping_sub(1).to_be_bytes());
                body.extend(input.u32().to_be_bytes());
                body.extend(input.bytes());
                (SACK, 0)
            }
            _ => {
                let (kind, flags) = (input.byte(), input.byte());
                body.extend(input.bytes());
                (kind, flags)
            }
        };
        body.truncate(MAX_PACKET_BYTES);
        let len = u16::try_from(body.len() + 4).unwrap_or(4);
        let mut chunk = vec![kind, flags];
        chunk.extend(len.to_be_bytes());
        chunk.extend(body);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn read(&mut self) {
        let mut count = 0;
        while let Some(received) = self.server.next_message() {
            count += 1;
            match received {
                Received::Message { message, .. } => {
                    assert!(message.bytes.len() <= MAX_MESSAGE_BYTES);
                }
                Received::Dcep { bytes, .. } => {
                    if let Some(Dcep::Open(open)) = Dcep::parse(&bytes) {
                        let written = open.to_bytes().expect("texts as long as those read");
                        assert_eq!(Dcep::parse(&written), Some(Dcep::Open(open)));
                    }
                }
                Received::TooLarge | Received::UnknownProtocol => {}
            }
        }
        assert!(count <= MAX_READY, "{count} messages waited");
    }

    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.server.poll_output() {
            count += 1;
            if let SctpOutput::Packet(packet) = output {
                assert!(packet.len() <= MAX_PACKET_BYTES, "a packet of {} bytes", packet.len());
                self.to_client.push(packet);
            }
        }
        assert!(count <= MAX_PACKETS, "{count} packets at once");
        // What is not carried is lost.
        self.to_client.truncate(MAX_PACKETS);
    }

    fn look(&mut self) {
        self.drain();
        assert!(!self.server.has_failed(), "the library panicked");
        assert!(self.server.next_timeout() > Time::ZERO);
    }
}

fn reliability(number: u8) -> Reliability {
    let limit = Some(u16::from(number >> 4));
    Reliability {
        ordered: number & 1 == 0,
        max_packet_life_time_ms: limit.filter(|_| number & 2 != 0),
        max_retransmits: limit.filter(|_| number & 6 == 4),
    }
}

/// CRC32c (RFC 9260 appendix A).
fn seal(packet: &mut [u8]) {
    let mut crc = u32::MAX;
    for &byte in packet.iter() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}
