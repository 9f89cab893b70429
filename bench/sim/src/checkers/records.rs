//! Control's records of a core are what the core holds: no less, or a core that comes after it
//! lacks something, and no more, or it is told of what is gone.
#![forbid(unsafe_code)]

use opencall_dataplane::holdings::Holdings;
use opencall_dataplane::records::RecordCounts;

/// Compares them, while no command is on its way.
///
/// # Errors
/// They do not agree.
pub fn check(recorded: RecordCounts, holdings: &Holdings) -> Result<(), String> {
    let held = RecordCounts {
        transports: holdings.transports,
        producers: holdings.producers,
        consumers: holdings.consumers,
    };
    if recorded == held { Ok(()) } else { Err(format!("recorded {recorded:?}, held {held:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_too_many_or_too_few_is_found() {
        let holdings =
            Holdings { transports: 2, producers: 1, consumers: 3, ..Holdings::default() };
        let recorded = RecordCounts { transports: 2, producers: 1, consumers: 3 };
        assert_eq!(check(recorded, &holdings), Ok(()));
        assert!(check(RecordCounts { consumers: 4, ..recorded }, &holdings).is_err());
        assert!(check(RecordCounts { producers: 0, ..recorded }, &holdings).is_err());
        assert!(check(RecordCounts { transports: 1, ..recorded }, &holdings).is_err());
    }
}
