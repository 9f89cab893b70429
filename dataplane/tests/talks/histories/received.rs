//! What has arrived at the server, source by source, counted as RFC 3550 counts; report blocks are
//! judged by it.

use std::collections::{BTreeMap, HashMap, HashSet};

use opencall_wire::rtcp::ReportBlock;
use opencall_wire::time::NtpTime;

/// Packets by which a report may differ: a source that goes back is believed with its second
/// packet.
const PROBATION: i64 = 2;

/// A packet's place in its source.
#[derive(Debug, Clone, Copy)]
pub struct Media {
    pub ssrc: u32,
    /// Rises with each new beginning of the numbers.
    pub numbering: u32,
    pub sequence: u16,
}

/// A source: an SSRC, until its numbers begin anew.
#[derive(Default)]
struct Source {
    seen: HashSet<i64>,
    first: i64,
    highest: i64,
    /// Expected and received at the last block.
    prior: (i64, i64),
}

#[derive(Default)]
pub struct Sources {
    sources: HashMap<u32, BTreeMap<u32, Source>>,
    /// The middle of the wall clocks of the reports that came.
    reports: HashMap<u32, HashSet<u32>>,
    /// Blocks judged.
    pub judged: usize,
}

impl Source {
    fn on_packet(&mut self, sequence: u16) {
        if self.seen.is_empty() {
            self.first = sequence.into();
            self.highest = self.first;
        }
        let step = sequence.wrapping_sub(self.highest as u16) as i16;
        let number = self.highest + i64::from(step);
        self.highest = self.highest.max(number);
        self.seen.insert(number);
    }

    fn counts(&self) -> (i64, i64) {
        (self.highest + 1 - self.first, self.seen.len() as i64)
    }
}

impl Sources {
    pub fn on_packet(&mut self, media: Media) {
        let numberings = self.sources.entry(media.ssrc).or_default();
        numberings.entry(media.numbering).or_default().on_packet(media.sequence);
    }

    pub fn on_report(&mut self, ssrc: u32, ntp: NtpTime) {
        self.reports.entry(ssrc).or_default().insert(ntp.middle());
    }

    /// What is wrong with a block; delays varied by `jitter_most` at most.
    pub fn judge(&mut self, block: &ReportBlock, jitter_most: u32) -> Option<String> {
        self.judged += 1;
        let told = |what: &str| Some(format!("report block with {what}: {block:?}"));
        let Some(numberings) = self.sources.get_mut(&block.ssrc) else { return told("no source") };
        // A source that has just begun anew may not be believed yet.
        let mut newest = numberings.values_mut().rev();
        let mut source = newest.next()?;
        if source.seen.len() <= PROBATION as usize
            && source.highest as u16 != block.highest_sequence as u16
        {
            source = newest.next()?;
        }
        if i64::from(block.highest_sequence) != source.highest {
            return told(&format!("another's highest number, not {:#x}", source.highest));
        }
        let (expected, received) = source.counts();
        let lost = expected - received;
        if (i64::from(block.cumulative_lost) - lost).abs() > PROBATION {
            return told(&format!("another's losses, not {lost}"));
        }
        let interval = (expected - source.prior.0).max(0);
        let lost = (interval - (received - source.prior.1)).max(0);
        source.prior = (expected, received);
        let lost_by_block = i64::from(block.fraction_lost) * interval / 256;
        if (lost_by_block - lost).abs() > PROBATION {
            return told(&format!("another's fraction: {lost} lost of {interval}"));
        }
        if block.jitter > jitter_most {
            return told(&format!("more jitter than {jitter_most}"));
        }
        let known = self.reports.get(&block.ssrc).is_some_and(|all| all.contains(&block.last_sr));
        if block.last_sr != 0 && !known {
            return told("a sender report that nobody made");
        }
        None
    }
}
