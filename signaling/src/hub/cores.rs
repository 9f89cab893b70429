//! Data cores that administrators add, and take away once nobody is on them.
//!
//! ```text
//! add ──▶ running ──drain──▶ draining ──nothing is left on it──▶ removed: its port is free
//!             ▲                  │ └─ the deadline: who is left is closed, and comes back elsewhere
//!             └───────keep───────┘
//! ```
//!
//! A core that dies while it drains is replaced as any other; one that was told to end is not.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use opencall_control::CoreAddresses;
use opencall_control::api::RequestError;
use opencall_dataplane::message::CoreId;
use opencall_dataplane::threads::{DataPlane, StartError};
use opencall_io::IoError;
use opencall_recorder::sink::SinkThread;
use opencall_wire::time::Time;

use super::Hub;
use crate::gauges::CoreState;
use crate::ice_tcp::{Doors, Gates};
use crate::push::PushThread;
use crate::taps::TapThread;

/// The data cores at start, and what it takes to have more.
pub struct Cores {
    /// Those that run.
    pub plane: DataPlane,
    /// Records, if anything may be recorded: one core more for the others.
    pub recorder: Option<SinkThread>,
    /// Hands voices on, if they may go anywhere: one more.
    pub taps: Option<TapThread>,
    /// Broadcasts, if anything may be: one more.
    pub pushes: Option<PushThread>,
    /// Where further ones may be.
    pub sites: Sites,
}

/// Where data cores may be.
pub struct Sites {
    /// Where they listen, and how that is announced.
    pub listen: Vec<(IpAddr, IpAddr)>,
    /// Port of core 0.
    pub first_port: u16,
    /// How many there are ports for.
    pub max: usize,
    /// Whether the same ports are opened for TCP.
    pub has_doors: bool,
    /// What opens them, and knows which cores there are.
    pub gates: Gates,
}

/// What an administrator wants of the data cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerRequest {
    /// One more.
    Add,
    /// One less, once nobody is on it.
    Drain {
        /// Which.
        core: u8,
        /// After how long who is left is closed.
        deadline: Option<Duration>,
    },
    /// That one after all.
    Keep {
        /// Which.
        core: u8,
    },
}

/// What became of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerReport {
    /// Which.
    pub core: u8,
    /// Its port.
    pub port: u16,
    /// What it does.
    pub state: CoreState,
    /// How many transports are on it.
    pub transports: usize,
}

/// Cores that drain, and until when.
pub(super) struct Crew {
    pub sites: Sites,
    draining: BTreeMap<CoreId, Option<Time>>,
}

impl Crew {
    pub fn new(sites: Sites) -> Self {
        Crew { sites, draining: BTreeMap::new() }
    }
}

impl Sites {
    fn port(&self, core: CoreId) -> u16 {
        self.first_port.saturating_add(core.0.into())
    }

    fn bound(&self, core: CoreId) -> Vec<SocketAddr> {
        let port = self.port(core);
        self.listen.iter().map(|(ip, _)| SocketAddr::new(*ip, port)).collect()
    }

    fn announced(&self, core: CoreId) -> CoreAddresses {
        let port = self.port(core);
        let announced = self.listen.iter().map(|(_, ip)| SocketAddr::new(*ip, port));
        CoreAddresses { announced: announced.collect() }
    }
}

/// Why a core could not be added where it was tried.
enum NotAdded {
    /// Another program has the port.
    PortTaken(String),
    Other(RequestError),
}

impl From<StartError> for NotAdded {
    fn from(error: StartError) -> Self {
        let reason = error.to_string();
        match error {
            StartError::Io(IoError::PortTaken(_)) => NotAdded::PortTaken(reason),
            StartError::NoCpu(_) => NotAdded::Other(RequestError { code: 409, reason }),
            _ => NotAdded::Other(RequestError { code: 503, reason }),
        }
    }
}

impl Hub {
    /// Does what an administrator wants of the data cores.
    pub(super) fn manage_cores(
        &mut self,
        now: Time,
        request: WorkerRequest,
    ) -> Result<WorkerReport, RequestError> {
        if let WorkerRequest::Drain { core, .. } | WorkerRequest::Keep { core } = request
            && self.plane.core_mut(CoreId(core)).is_none()
        {
            // Also one that was told to end and has not yet.
            let reason = format!("there is no core {core}: GET /v1/workers lists them");
            return Err(RequestError { code: 404, reason });
        }
        let core = match request {
            WorkerRequest::Add => self.add_core()?,
            WorkerRequest::Drain { core, deadline } => {
                let core = CoreId(core);
                self.control.drain_core(core)?;
                let until = deadline.map(|after| now + after);
                self.crew.draining.insert(core, until);
                self.meters.set_state(core, CoreState::Draining);
                core
            }
            WorkerRequest::Keep { core } => {
                let core = CoreId(core);
                self.control.keep_core(core)?;
                self.crew.draining.remove(&core);
                self.meters.set_state(core, CoreState::Running);
                core
            }
        };
        self.gauges.set_cores(self.meters.views());
        let state = match self.control.is_core_open(core) {
            true => CoreState::Running,
            false => CoreState::Draining,
        };
        let transports = self.control.transports_on(core);
        Ok(WorkerReport { core: core.0, port: self.crew.sites.port(core), state, transports })
    }

    /// Adds a core at the first port that is free.
    fn add_core(&mut self) -> Result<CoreId, RequestError> {
        let max = self.crew.sites.max;
        let mut taken = None;
        for core in (0..max).map(|index| CoreId(index as u8)) {
            if !self.plane.is_free(core) {
                continue;
            }
            match self.add_core_at(core) {
                Ok(()) => return Ok(core),
                Err(NotAdded::PortTaken(reason)) => taken = Some(reason),
                Err(NotAdded::Other(error)) => return Err(error),
            }
        }
        let full = || {
            format!(
                "each of the {max} ports for data cores has one: raise --rtc-max-port \
                 (RTC_MAX_PORT), or wait for one that drains"
            )
        };
        Err(RequestError { code: 409, reason: taken.unwrap_or_else(full) })
    }

    fn add_core_at(&mut self, core: CoreId) -> Result<(), NotAdded> {
        let sites = &mut self.crew.sites;
        let bound = sites.bound(core);
        let doors = match sites.has_doors {
            true => Doors::open(&bound).map_err(|(address, cause)| {
                NotAdded::PortTaken(format!("TCP {address} cannot be had: {cause}"))
            })?,
            false => Doors::default(),
        };
        let port = self.plane.add(core)?;
        if let Err(error) = sites.gates.open(doors) {
            tracing::error!(core = core.0, %error, "no ICE over TCP on this core");
        }
        if let Some(at) = bound.first() {
            sites.gates.add_core(core, *at);
        }
        self.dispatch.add(core);
        self.control.add_core(core, sites.announced(core));
        self.meters.add(core, port);
        tracing::info!(core = core.0, port, "data core added");
        Ok(())
    }

    /// Ends the cores that drain and on which nobody is left, and closes who is left on those whose
    /// time is over.
    pub(super) fn tend_draining(&mut self, now: Time) {
        let draining: Vec<_> = self.crew.draining.iter().map(|(core, at)| (*core, *at)).collect();
        for (core, deadline) in draining {
            if deadline.is_some_and(|at| at <= now) {
                let closed = self.control.cut_core(now, core);
                self.settle();
                if closed > 0 {
                    tracing::warn!(
                        core = core.0,
                        closed,
                        "a core drains no longer: sessions closed"
                    );
                }
            }
            if self.control.is_core_empty(core) && self.dispatch.is_empty_for(core) {
                self.end_core(now, core);
            }
        }
        while let Some(core) = self.plane.poll_ended(now) {
            self.forget_core(now, core);
        }
    }

    /// Tells a core to end on which nobody is left.
    fn end_core(&mut self, now: Time, core: CoreId) {
        self.take_events_of(now, core, usize::MAX);
        if !self.plane.end(core, now) {
            return;
        }
        self.crew.draining.remove(&core);
        self.dispatch.remove(core);
        // One that was dead stays so.
        if self.lost.remove(&core).is_some() {
            self.gauges.workers.set_any_lost(!self.lost.is_empty());
        }
        let port = self.crew.sites.port(core);
        self.crew.sites.gates.close(core, port);
        self.settle();
    }

    /// A core has ended: nothing writes any more what others may go on from.
    fn forget_core(&mut self, now: Time, core: CoreId) {
        // Links may have been asked for meanwhile.
        self.dispatch.remove(core);
        self.control.remove_core(now, core);
        self.settle();
        self.meters.set_state(core, CoreState::Removed);
        self.gauges.set_cores(self.meters.views());
        tracing::info!(core = core.0, "data core removed");
    }
}
