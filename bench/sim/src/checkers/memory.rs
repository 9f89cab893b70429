//! What a core holds is bounded by what control has made there, and gone when that is gone.
#![forbid(unsafe_code)]

use opencall_control::Counts;
use opencall_dataplane::holdings::Holdings;
use opencall_dataplane::ice::agent::MAX_TUPLES;
use opencall_wire::time::Time;

use crate::server::Server;

/// User fragments of a transport: its own and, during a restart, the next one.
const UFRAGS: usize = 2;

/// Datagrams of DTLS that wait at one transport.
const HELD_DTLS: usize = 6;

/// Packets that wait for the pace of a client, and a little more: where a queue was cut.
const WAITING: usize = 1_100;

/// Events that wait in a core while control is stalled: some hundred a second for each client.
const EVENTS: usize = 20_000;

/// Looks at what a core holds.
///
/// # Errors
/// There is more of something than what it belongs to allows.
pub fn check(holdings: &Holdings) -> Result<(), String> {
    let transports = holdings.transports;
    let is_bounded = holdings.ufrags <= UFRAGS * transports
        && holdings.ufrags >= transports
        && holdings.addresses <= MAX_TUPLES * transports
        && holdings.held_dtls <= HELD_DTLS * transports
        && holdings.waiting <= WAITING * transports
        && holdings.subscriptions == holdings.consumers
        && holdings.outgoing_ssrcs == holdings.consumers
        && holdings.events <= EVENTS;
    if is_bounded { Ok(()) } else { Err(format!("{holdings:?}")) }
}

/// Compares what control knows with what the cores hold, while nothing is on its way.
///
/// # Errors
/// They do not agree.
pub fn agree(server: &Server) -> Result<(), String> {
    let counts = server.control.counts();
    let all = || server.stations.iter().map(|station| station.seat.core().holdings());
    let transports: usize = all().map(|holdings| holdings.transports).sum();
    let producers: usize = all().map(|holdings| holdings.producers).sum();
    let consumers: usize = all().map(|holdings| holdings.consumers).sum();
    let known = (counts.transports, counts.producers + counts.pipes, counts.consumers);
    if known == (transports, producers, consumers) {
        return Ok(());
    }
    Err(format!("control has {counts:?}, the cores {transports}, {producers}, {consumers}"))
}

/// Looks at what is left when everyone has gone.
///
/// # Errors
/// Something is.
pub fn empty(server: &Server) -> Result<(), String> {
    let counts = server.control.counts();
    if counts != Counts::default() || server.control.next_timeout() != Time::NEVER {
        let next = server.control.next_timeout();
        return Err(format!("control still has {counts:?}, next timeout {next:?}"));
    }
    for (core, station) in server.stations.iter().enumerate() {
        let holdings = station.seat.core().holdings();
        if holdings != Holdings::default() {
            return Err(format!("core {core} still has {holdings:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_behind_is_found() {
        let fine = Holdings {
            transports: 2,
            consumers: 3,
            subscriptions: 3,
            outgoing_ssrcs: 3,
            ufrags: 3,
            addresses: 5,
            ..Holdings::default()
        };
        assert_eq!(check(&fine), Ok(()));
        for worse in [
            Holdings { ufrags: 5, ..fine },
            Holdings { ufrags: 1, ..fine },
            Holdings { addresses: 17, ..fine },
            Holdings { subscriptions: 4, ..fine },
            Holdings { outgoing_ssrcs: 2, ..fine },
            Holdings { held_dtls: 13, ..fine },
            Holdings { waiting: 2 * WAITING + 1, ..fine },
            Holdings { events: EVENTS + 1, ..fine },
        ] {
            assert!(check(&worse).is_err(), "{worse:?}");
        }
    }
}
