//! Whether io_uring works here, found out by doing what the backend does.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::super::batch::{RxBatch, TxBatch};
use super::super::error::ProbeError;
use super::super::park::Parker;
use super::super::send::{PROBE_PATIENCE, probe_gso};
use super::super::socket::{SocketOptions, bind};
use super::super::types::SocketId;
use super::super::{Io, Wait};
use super::UringIo;

/// Sizes of the datagrams a probe sends to itself: a train with a short end.
const SIZES: [usize; 3] = [40, 40, 30];

/// Makes a ring with all its flags, registers files and buffers, sends a train to itself over
/// loopback, receives its datagrams, and is woken.
pub fn probe_uring() -> Result<(), ProbeError> {
    let failed = |error: &dyn std::fmt::Display| ProbeError::Datagrams(error.to_string());
    let options = SocketOptions { receive_buffer_size: 1 << 16, send_buffer_size: 1 << 16 };
    let sockets = bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], 0, options).map_err(|e| failed(&e))?;
    let parker = Parker::new().map_err(|error| failed(&error))?;
    let mut io = UringIo::new(sockets, parker.for_backend(), probe_gso())?;
    let (mut tx, mut rx) = (TxBatch::new(), RxBatch::new());
    io.start(&mut rx)?;

    let Some(&own) = io.local_addrs().first() else { return Err(failed(&"no address")) };
    for size in SIZES {
        let Some(room) = tx.reserve(size) else { return Err(failed(&"no room")) };
        room.fill(size as u8);
        tx.commit(size, own, SocketId(0));
    }
    parker.prepare();
    parker.unparker().wake();

    let start = Instant::now();
    let (mut received, mut is_woken) = (0, false);
    while received < SIZES.len() || !is_woken {
        let left = PROBE_PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(ProbeError::Datagrams(format!(
                "{received} of {} datagrams came back, woken: {is_woken}",
                SIZES.len()
            )));
        }
        let report = io.turn(&mut tx, &mut rx, Wait::Until(left)).map_err(|e| failed(&e))?;
        is_woken |= report.woken;
        for i in 0..rx.len() {
            let expected = SIZES.get(received).copied().unwrap_or(0);
            if rx.bytes(i) != vec![expected as u8; expected] || rx.datagram(i).source != own {
                return Err(failed(&"datagrams came back changed"));
            }
            received += 1;
        }
    }
    Ok(())
}
