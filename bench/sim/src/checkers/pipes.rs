//! There is a pipe from a producer's core to each core that has consumers of it, and no other.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use opencall_dataplane::holdings::Wiring;
use opencall_dataplane::message::{CoreId, ProducerId};

/// Compares pipes with needs, while no command is on its way; `is_staged`: rooms have a stage. A
/// core that took another's place goes on with whom a slot was to carry next, and whom it carried
/// until then is let go when that one is there: it has no consumer meanwhile.
///
/// # Errors
/// A pipe is missing, or one is left.
pub fn check(cores: &[Vec<Wiring>], is_staged: bool) -> Result<(), String> {
    let mut needed: BTreeSet<(ProducerId, CoreId)> = BTreeSet::new();
    let mut open: BTreeSet<(ProducerId, CoreId)> = BTreeSet::new();
    for (index, core) in cores.iter().enumerate() {
        for wiring in core {
            if wiring.is_home {
                open.extend(wiring.pipes.iter().map(|&to| (wiring.producer, to)));
            } else if wiring.consumers > 0 || is_staged {
                needed.insert((wiring.producer, CoreId(index as u8)));
            } else {
                return Err(format!("core {index} has {:?} and no consumer", wiring.producer));
            }
        }
    }
    if needed == open { Ok(()) } else { Err(format!("needed {needed:?}, open {open:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wiring(is_home: bool, consumers: usize, pipes: &[u8]) -> Wiring {
        let pipes = pipes.iter().map(|&core| CoreId(core)).collect();
        Wiring { producer: ProducerId(1), is_home, consumers, pipes }
    }

    #[test]
    fn a_pipe_too_many_or_too_few_is_found() {
        let (home, far) = (wiring(true, 2, &[1]), wiring(false, 1, &[]));
        assert_eq!(check(&[vec![home.clone()], vec![far.clone()]], false), Ok(()));
        assert!(check(&[vec![home.clone()], vec![]], false).is_err());
        assert!(check(&[vec![wiring(true, 2, &[])], vec![far]], true).is_err());
        assert!(check(&[vec![home], vec![wiring(false, 0, &[])]], false).is_err());
    }
}
