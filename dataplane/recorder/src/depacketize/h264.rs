//! H.264 (RFC 6184): NAL units, each with its size before it, as in MP4. Parameter sets stay in the
//! stream too: they may change, and Matroska's header cannot.
#![forbid(unsafe_code)]

use super::bits::Bits;
use super::{Frame, Malformed};

/// NAL unit types.
mod nal {
    pub const IDR_SLICE: u8 = 5;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const ACCESS_UNIT_DELIMITER: u8 = 9;
    pub const STAP_A: u8 = 24;
    pub const FU_A: u8 = 28;
}

/// The largest parameter set that is kept.
const MAX_SET_BYTES: usize = 1024;

/// Profiles whose sequence parameter sets tell of chroma (H.264 section 7.3.2.1.1).
const HIGH_PROFILES: [u32; 10] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138];

#[derive(Debug, Default)]
pub struct H264 {
    data: Vec<u8>,
    /// Where the size of the fragmented unit stands, while one is open.
    open: Option<usize>,
    is_key: bool,
    sps: Vec<u8>,
    pps: Vec<u8>,
}

impl H264 {
    /// Forgets the frame, not the parameter sets.
    pub fn reset(&mut self) {
        self.data.clear();
        (self.open, self.is_key) = (None, false);
    }

    pub fn push(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let (&header, rest) = payload.split_first().ok_or(Malformed)?;
        let kind = header & 0x1f;
        if self.open.is_some() && kind != nal::FU_A {
            return Err(Malformed);
        }
        match kind {
            1..=23 => self.unit(payload),
            nal::STAP_A => self.aggregate(rest)?,
            nal::FU_A => self.fragment(header, rest)?,
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn aggregate(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        while !rest.is_empty() {
            let (&size, bytes) = rest.split_first_chunk().ok_or(Malformed)?;
            let size = usize::from(u16::from_be_bytes(size));
            let (unit, next) = bytes.split_at_checked(size).ok_or(Malformed)?;
            self.unit(unit);
            rest = next;
        }
        Ok(())
    }

    fn fragment(&mut self, header: u8, rest: &[u8]) -> Result<(), Malformed> {
        let (&fragment, part) = rest.split_first().ok_or(Malformed)?;
        let (begins, ends) = (fragment & 0x80 != 0, fragment & 0x40 != 0);
        if begins == self.open.is_some() {
            return Err(Malformed);
        }
        if begins {
            self.open = Some(self.data.len());
            self.data.extend_from_slice(&[0; 4]);
            self.data.push(header & 0xe0 | fragment & 0x1f);
        }
        self.data.extend_from_slice(part);
        if let Some(at) = self.open.filter(|_| ends) {
            self.open = None;
            let unit = self.data.split_off(at + 4);
            self.data.truncate(at);
            self.unit(&unit);
        }
        Ok(())
    }

    /// Appends a whole unit.
    fn unit(&mut self, unit: &[u8]) {
        let Some(&header) = unit.first() else { return };
        match header & 0x1f {
            nal::ACCESS_UNIT_DELIMITER => return,
            nal::SPS if unit.len() <= MAX_SET_BYTES => self.sps = unit.to_vec(),
            nal::PPS if unit.len() <= MAX_SET_BYTES => self.pps = unit.to_vec(),
            nal::IDR_SLICE => self.is_key = true,
            _ => {}
        }
        self.data.extend_from_slice(&(unit.len() as u32).to_be_bytes());
        self.data.extend_from_slice(unit);
    }

    pub fn finish(&mut self) -> Option<Frame> {
        let data = std::mem::take(&mut self.data);
        let is_idr = std::mem::take(&mut self.is_key);
        if self.open.take().is_some() || data.is_empty() {
            return None;
        }
        let size = if is_idr { size(&self.sps) } else { None };
        let private = size.and_then(|_| self.configuration());
        let key = private.is_some();
        Some(Frame { data, key, size, private })
    }

    /// The decoder configuration record (ISO/IEC 14496-15 section 5.3.3.1).
    fn configuration(&self) -> Option<Vec<u8>> {
        let &[_, profile, compatibility, level, ..] = self.sps.as_slice() else { return None };
        if self.pps.is_empty() {
            return None;
        }
        let mut record = vec![1, profile, compatibility, level, 0xff, 0xe1];
        record.extend_from_slice(&(self.sps.len() as u16).to_be_bytes());
        record.extend_from_slice(&self.sps);
        record.push(1);
        record.extend_from_slice(&(self.pps.len() as u16).to_be_bytes());
        record.extend_from_slice(&self.pps);
        if HIGH_PROFILES[..4].contains(&u32::from(profile)) {
            // 4:2:0 with eight bits: all that browsers send.
            record.extend_from_slice(&[0xfd, 0xf8, 0xf8, 0]);
        }
        Some(record)
    }
}

/// Without the bytes that keep start codes out of units (section 7.4.1).
fn unescaped(unit: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Width and height from a sequence parameter set (section 7.3.2.1.1).
fn size(sps: &[u8]) -> Option<(u32, u32)> {
    let sps = unescaped(sps.get(1..)?);
    let mut bits = Bits::new(&sps);
    let profile = bits.take(8)?;
    bits.take(16)?;
    bits.ue()?;
    let mut chroma = 1;
    if HIGH_PROFILES.contains(&profile) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.take(1)?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue()?;
    skip_order_count(&mut bits)?;
    bits.ue()?;
    bits.take(1)?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?;
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.take(1)?;
    }
    let height = map_units.checked_mul(if frames_only { 16 } else { 32 })?;
    bits.take(1)?;
    let (mut crop_x, mut crop_y) = (0_u32, 0_u32);
    if bits.flag()? {
        let unit_x = if chroma == 1 || chroma == 2 { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * if frames_only { 1 } else { 2 };
        crop_x = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
        crop_y = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?;
    }
    let size = (width.checked_sub(crop_x)?, height.checked_sub(crop_y)?);
    (size.0 > 0 && size.1 > 0 && size.0 <= 0xffff && size.1 <= 0xffff).then_some(size)
}

fn skip_scaling_lists(bits: &mut Bits<'_>, count: usize) -> Option<()> {
    for index in 0..count {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if index < 6 { 16 } else { 64 } {
            if next != 0 {
                next = last.wrapping_add(bits.se()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_order_count(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.take(1)?;
            bits.se()?;
            bits.se()?;
            let count = bits.ue()?;
            for _ in 0..count.min(256) {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}
