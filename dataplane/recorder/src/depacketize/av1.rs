//! AV1 (AOM RTP specification): OBUs, each with its size in it, without temporal delimiters, as
//! Matroska wants them.
#![forbid(unsafe_code)]

use opencall_wire::rtp::av1::split_size;

use super::bits::Bits;
use super::{Frame, Malformed};

/// OBU types (AV1 specification section 6.2.2).
mod obu {
    pub const SEQUENCE_HEADER: u8 = 1;
    pub const TEMPORAL_DELIMITER: u8 = 2;
    pub const TILE_LIST: u8 = 8;
    pub const PADDING: u8 = 15;
}

const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// The largest sequence header that is kept.
const MAX_HEADER_BYTES: usize = 1024;

#[derive(Debug, Default)]
pub struct Av1 {
    data: Vec<u8>,
    /// The OBU that goes on in the next packet.
    open: Option<Vec<u8>>,
    begins_sequence: bool,
    has_begun: bool,
    /// The last sequence header, as it stands in the stream.
    header: Vec<u8>,
    has_header: bool,
}

impl Av1 {
    /// Forgets the frame, not the sequence header.
    pub fn reset(&mut self) {
        let header = std::mem::take(&mut self.header);
        *self = Av1 { header, ..Av1::default() };
    }

    pub fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&aggregation, mut rest) = payload.split_first().ok_or(Malformed)?;
        let (continues, goes_on) = (aggregation & 0x80 != 0, aggregation & 0x40 != 0);
        let count = aggregation >> 4 & 0x03;
        if continues != self.open.is_some() {
            return Err(Malformed);
        }
        if !self.has_begun {
            self.has_begun = true;
            self.begins_sequence = aggregation & 0x08 != 0;
        }
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            let element = if index == count {
                std::mem::take(&mut rest)
            } else {
                let (size, bytes) = split_size(rest).ok_or(Malformed)?;
                let (element, next) = bytes.split_at_checked(size).ok_or(Malformed)?;
                rest = next;
                element
            };
            let mut whole = self.open.take().unwrap_or_default();
            whole.extend_from_slice(element);
            if rest.is_empty() && goes_on {
                self.open = Some(whole);
            } else {
                self.unit(&whole)?;
            }
        }
        Ok(())
    }

    /// Appends a whole OBU, with its size.
    fn unit(&mut self, unit: &[u8]) -> Result<(), Malformed> {
        let Some(&header) = unit.first() else { return Ok(()) };
        let kind = header >> 3 & 0x0f;
        if matches!(kind, obu::TEMPORAL_DELIMITER | obu::TILE_LIST | obu::PADDING) {
            return Ok(());
        }
        let head = if header & HAS_EXTENSION != 0 { 2 } else { 1 };
        let (head, mut body) = unit.split_at_checked(head).ok_or(Malformed)?;
        if header & HAS_SIZE != 0 {
            let (size, bytes) = split_size(body).ok_or(Malformed)?;
            body = bytes.get(..size).ok_or(Malformed)?;
        }
        let begin = self.data.len();
        self.data.push(header | HAS_SIZE);
        self.data.extend_from_slice(&head[1..]);
        append_size(&mut self.data, body.len());
        self.data.extend_from_slice(body);
        if kind == obu::SEQUENCE_HEADER && body.len() <= MAX_HEADER_BYTES {
            self.header = self.data[begin..].to_vec();
            self.has_header = true;
        }
        Ok(())
    }

    pub fn finish(&mut self) -> Option<Frame> {
        let data = std::mem::take(&mut self.data);
        let is_whole = self.open.is_none();
        let starts = self.begins_sequence && self.has_header;
        self.reset();
        if !is_whole || data.is_empty() {
            return None;
        }
        let told = if starts { Sequence::parse(&self.header) } else { None };
        let private = told.as_ref().map(|told| told.configuration(&self.header));
        Some(Frame { data, key: told.is_some(), size: told.map(|told| told.size), private })
    }
}

/// What of a sequence header goes into Matroska's (AV1 specification section 5.5).
struct Sequence {
    profile: u32,
    level: u32,
    tier: u32,
    size: (u32, u32),
}

impl Sequence {
    fn parse(unit: &[u8]) -> Option<Self> {
        let head = if unit.first()? & HAS_EXTENSION != 0 { 2 } else { 1 };
        let (_, body) = split_size(unit.get(head..)?)?;
        let mut bits = Bits::new(body);
        let profile = bits.take(3)?;
        bits.take(1)?;
        let reduced = bits.flag()?;
        let (mut level, mut tier) = (0, 0);
        if reduced {
            level = bits.take(5)?;
        } else {
            let (mut has_model, mut delay_bits) = (false, 0);
            if bits.flag()? {
                bits.take(32)?;
                bits.take(32)?;
                if bits.flag()? {
                    bits.ue()?;
                }
                has_model = bits.flag()?;
                if has_model {
                    delay_bits = bits.take(5)? + 1;
                    bits.take(32)?;
                    bits.take(10)?;
                }
            }
            let has_delay = bits.flag()?;
            let points = bits.take(5)? + 1;
            for point in 0..points {
                bits.take(12)?;
                let level_of = bits.take(5)?;
                let tier_of = if level_of > 7 { bits.take(1)? } else { 0 };
                if point == 0 {
                    (level, tier) = (level_of, tier_of);
                }
                if has_model && bits.flag()? {
                    bits.take(delay_bits)?;
                    bits.take(delay_bits)?;
                    bits.take(1)?;
                }
                if has_delay && bits.flag()? {
                    bits.take(4)?;
                }
            }
        }
        let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
        let size = (bits.take(width_bits)? + 1, bits.take(height_bits)? + 1);
        Some(Sequence { profile, level, tier, size })
    }

    /// The codec configuration record (AV1 in ISO base media file format, section 2.3), for 4:2:0
    /// with eight bits: all that browsers send.
    fn configuration(&self, header: &[u8]) -> Vec<u8> {
        let mut record = vec![
            0x81,
            (self.profile << 5 | self.level) as u8,
            (self.tier << 7 | 0b0000_1100) as u8,
            0,
        ];
        record.extend_from_slice(header);
        record
    }
}

fn append_size(out: &mut Vec<u8>, mut size: usize) {
    while size >= 0x80 {
        out.push(size as u8 | 0x80);
        size >>= 7;
    }
    out.push(size as u8);
}
