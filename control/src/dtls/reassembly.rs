//! Handshake messages in the clear, put together from fragments that may be lost, repeated, cut
//! elsewhere (RFC 6347 section 4.2.3) or forged.
//!
//! Nothing in the clear is authentic by itself, so a fragment that contradicts an unfinished
//! message begins another beside it; which of them is true is found out where signatures are
//! checked.
#![forbid(unsafe_code)]

use std::ops::Range;

use super::record::{DtlsDrop, Fragment, Message};

/// Unfinished messages at a time. An honest flight is cut in two or three; the rest is room for
/// what is forged. Past that the one longest without a fragment gives way.
const MAX_UNFINISHED: usize = 16;

/// Their bytes in all: two flights with large certificates.
const MAX_UNFINISHED_BYTES: usize = 32 * 1024;

/// Holes in one of them: a message of [`super::record::MAX_MESSAGE_BYTES`] at the smallest MTU of
/// interest, 256 bytes, of which every other fragment is lost.
const MAX_HOLES: usize = 32;

#[derive(Default)]
pub(super) struct Reassembler {
    /// The one that last got a fragment stands last.
    unfinished: Vec<Unfinished>,
}

struct Unfinished {
    message: Message,
    /// What is missing, in order.
    holes: Vec<Range<usize>>,
}

impl Reassembler {
    /// Adds a fragment; every message that is whole with it goes to `out`.
    pub fn add(&mut self, fragment: &Fragment, out: &mut Vec<Message>) -> Result<(), DtlsDrop> {
        if fragment.is_whole() {
            out.push(message(fragment, fragment.bytes.to_vec()));
            return Ok(());
        }
        let (mut fits_one, mut refused) = (false, None);
        let (mut index, mut to_look_at) = (0, self.unfinished.len());
        while index < to_look_at {
            let unfinished = &mut self.unfinished[index];
            if !unfinished.agrees(fragment) {
                index += 1;
                continue;
            }
            if let Err(reason) = unfinished.fill(fragment) {
                // Forged islands: the true message may stand behind.
                refused = Some(reason);
                index += 1;
                continue;
            }
            fits_one = true;
            to_look_at -= 1;
            let filled = self.unfinished.remove(index);
            match filled.holes.is_empty() {
                true => out.push(filled.message),
                false => self.unfinished.push(filled),
            }
        }
        if fits_one {
            return Ok(());
        }
        self.begin(fragment);
        refused.map_or(Ok(()), Err)
    }

    fn begin(&mut self, fragment: &Fragment) {
        let whole = 0..fragment.length;
        let mut unfinished =
            Unfinished { message: message(fragment, vec![0; whole.end]), holes: vec![whole] };
        // One hole becomes two at most.
        let _ = unfinished.fill(fragment);
        let bytes = |unfinished: &[Unfinished]| -> usize {
            unfinished.iter().map(|one| one.message.body.len()).sum()
        };
        while self.unfinished.len() >= MAX_UNFINISHED
            || (bytes(&self.unfinished) + fragment.length > MAX_UNFINISHED_BYTES
                && !self.unfinished.is_empty())
        {
            self.unfinished.remove(0);
        }
        self.unfinished.push(unfinished);
    }
}

fn message(fragment: &Fragment, body: Vec<u8>) -> Message {
    Message { kind: fragment.kind, seq: fragment.seq, body }
}

impl Unfinished {
    /// Whether the fragment may be of this message: nothing that is known says otherwise.
    fn agrees(&self, fragment: &Fragment) -> bool {
        let message = &self.message;
        let same = (message.kind, message.seq, message.body.len());
        if same != (fragment.kind, fragment.seq, fragment.length) {
            return false;
        }
        let here = fragment.offset..fragment.offset + fragment.bytes.len();
        let mut known_from = here.start;
        let same_bytes = |known: Range<usize>| {
            let ours = message.body.get(known.clone());
            let theirs = fragment.bytes.get(known.start - here.start..known.end - here.start);
            ours == theirs
        };
        for hole in self.holes.iter().filter(|hole| hole.start < here.end && here.start < hole.end)
        {
            if hole.start > known_from && !same_bytes(known_from..hole.start) {
                return false;
            }
            known_from = hole.end.min(here.end);
        }
        known_from >= here.end || same_bytes(known_from..here.end)
    }

    fn fill(&mut self, fragment: &Fragment) -> Result<(), DtlsDrop> {
        let here = fragment.offset..fragment.offset + fragment.bytes.len();
        let Some(place) = self.message.body.get_mut(here.clone()) else {
            return Err(DtlsDrop::FragmentMalformed);
        };
        let mut holes = Vec::with_capacity(self.holes.len() + 1);
        for hole in &self.holes {
            let before = hole.start..hole.end.min(here.start);
            let after = hole.start.max(here.end)..hole.end;
            holes.extend([before, after].into_iter().filter(|rest| !rest.is_empty()));
        }
        if holes.len() > MAX_HOLES {
            return Err(DtlsDrop::TooManyFragments);
        }
        place.copy_from_slice(fragment.bytes);
        self.holes = holes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom as _;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;

    fn fragment(body: &[u8], range: Range<usize>) -> Fragment<'_> {
        let (length, offset) = (body.len(), range.start);
        Fragment { kind: 11, seq: 1, length, offset, bytes: &body[range] }
    }

    fn add(reassembler: &mut Reassembler, fragment: &Fragment) -> Vec<Message> {
        let mut out = Vec::new();
        let _ = reassembler.add(fragment, &mut out);
        out
    }

    fn body(length: usize) -> Vec<u8> {
        (0..length).map(|index| (index * 7 % 251) as u8).collect()
    }

    /// The certificate of 293 bytes that never arrived.
    #[test]
    fn fragments_that_overlap_when_repeated_make_the_message() {
        let body = body(293);
        let table: [&[Range<usize>]; 6] = [
            &[0..108, 0..231, 231..293],
            &[0..108, 0..293],
            &[231..293, 0..108, 100..240],
            &[0..108, 108..293],
            &[0..100, 50..150, 0..293],
            &[0..1, 292..293, 1..292],
        ];
        for fragments in table {
            let mut reassembler = Reassembler::default();
            let (last, first) = fragments.split_last().expect("some");
            for range in first {
                assert!(add(&mut reassembler, &fragment(&body, range.clone())).is_empty());
            }
            let whole = add(&mut reassembler, &fragment(&body, last.clone()));
            assert_eq!(whole.first().map(|message| &message.body), Some(&body), "{fragments:?}");
        }
    }

    #[test]
    fn any_cut_in_any_order_makes_the_message_once_all_is_there() {
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..500 {
            let body = body(rng.random_range(2..2000));
            let mut fragments: Vec<Range<usize>> = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                let step = rng.random_range(1.max(body.len() / 20)..=body.len());
                let cuts = (0..body.len()).step_by(step);
                fragments.extend(cuts.map(|from| from..(from + step).min(body.len())));
            }
            fragments.shuffle(&mut rng);
            let mut reassembler = Reassembler::default();
            let mut whole = Vec::new();
            for range in fragments {
                whole.extend(add(&mut reassembler, &fragment(&body, range)));
            }
            assert!(!whole.is_empty() && whole.iter().all(|message| message.body == body));
        }
    }

    #[test]
    fn forged_fragments_do_not_keep_the_true_message_away() {
        let body = body(293);
        let forged = vec![0xee; 293];
        let table: [(&[u8], Range<usize>); 5] = [
            (&forged, 0..108),
            (&forged, 0..292),
            (&forged, 100..101),
            (&forged[..200], 0..108),
            (&[0xee; 400], 0..108),
        ];
        for (bytes, range) in table {
            let mut reassembler = Reassembler::default();
            add(&mut reassembler, &fragment(bytes, range.clone()));
            let mut whole = add(&mut reassembler, &fragment(&body, 0..231));
            whole.extend(add(&mut reassembler, &fragment(&body, 231..293)));
            assert!(whole.iter().any(|message| message.body == body), "{range:?}");
        }
    }

    #[test]
    fn forged_islands_do_not_keep_the_true_message_away() {
        let body = body(2_600);
        let forged = vec![255; body.len()];
        let mut reassembler = Reassembler::default();
        let islands = (0..31).map(|island| 2 * island + 1).chain([body.len() - 1]);
        for at in islands {
            add(&mut reassembler, &fragment(&forged, at..at + 1));
        }
        let cut = [0..1_000, 1_000..2_000, 2_000..2_600];
        let whole = cut.map(|range| add(&mut reassembler, &fragment(&body, range)));
        assert!(whole.iter().flatten().any(|message| message.body == body));
    }

    #[test]
    fn what_is_nearly_whole_does_not_give_way_to_what_was_only_begun() {
        let body = body(4_000);
        let mut reassembler = Reassembler::default();
        add(&mut reassembler, &fragment(&body, 0..1_000));
        for seq in 2..4 {
            let bytes = &[7; 13];
            let begun = Fragment { kind: 11, seq, length: 12_000, offset: 0, bytes };
            add(&mut reassembler, &begun);
        }
        add(&mut reassembler, &fragment(&body, 1_000..3_000));
        add(&mut reassembler, &Fragment { seq: 4, ..fragment(&[7; 12_000], 0..13) });
        let whole = add(&mut reassembler, &fragment(&body, 3_000..4_000));
        assert!(whole.iter().any(|message| message.body == body));
    }

    #[test]
    fn what_never_ends_stays_bounded() {
        let mut reassembler = Reassembler::default();
        let mut rng = StdRng::seed_from_u64(6);
        let bytes = [0; 64];
        for _ in 0..10_000 {
            let length = rng.random_range(100..12_000);
            let offset = rng.random_range(0..length - 64);
            let here = rng.random_range(1..64);
            let (kind, seq) = (rng.random_range(0..20), rng.random_range(0..6));
            let bytes = &bytes[..here];
            add(&mut reassembler, &Fragment { kind, seq, length, offset, bytes });
            let held: usize = reassembler.unfinished.iter().map(|u| u.message.body.len()).sum();
            assert!(held <= MAX_UNFINISHED_BYTES && reassembler.unfinished.len() <= MAX_UNFINISHED);
            assert!(reassembler.unfinished.iter().all(|one| one.holes.len() <= MAX_HOLES));
        }
    }
}
