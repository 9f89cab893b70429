//! What a server takes over from its supervisor: descriptors, whose numbers are in a variable.
//!
//! ```text
//! OPENCALL_INHERITED="parent=812 memory=3 http=4 metrics=5 core=6/7,8/- core=9/10,11/-"
//! ```
//!
//! Of a data core each socket has another beside it for what has patience, or none.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{Child, Command};

use opencall_dataplane::calls::CallMemory;
use opencall_dataplane::threads::StartError;
use opencall_io::shared::{self, inherit, set_inherited};
use opencall_io::{SocketOptions, SocketSet};

use crate::config::Config;
use crate::server::{ServerError, listen};

/// The variable.
const VARIABLE: &str = "OPENCALL_INHERITED";

/// What the supervisor holds.
pub struct Estate {
    memory: OwnedFd,
    http: TcpListener,
    metrics: Option<TcpListener>,
    cores: Vec<SocketSet>,
}

impl Estate {
    /// Opens all that the server will need.
    pub fn open(config: &Config) -> Result<Self, ServerError> {
        let memory = CallMemory::create().map_err(ServerError::CallMemory)?;
        let http = listen(config.web.listen, "--http-listen")?;
        let metrics = config.web.metrics_listen.map(|address| listen(address, "--metrics-listen"));
        let ips: Vec<IpAddr> = config.listen.iter().map(|listen| listen.ip).collect();
        let bind = |index: usize| {
            let port = config.first_port.saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
            opencall_io::bind(&ips, port, SocketOptions::default())
        };
        let cores = (0..config.workers).map(bind).collect::<Result<Vec<_>, _>>();
        let cores = cores.map_err(StartError::Io)?;
        for warning in cores.iter().flat_map(SocketSet::warnings) {
            tracing::warn!("{warning}");
        }
        Ok(Estate { memory, http, metrics: metrics.transpose()?, cores })
    }

    /// New memory, in which no calls are.
    pub fn forget_calls(&mut self) -> io::Result<()> {
        self.memory = CallMemory::create()?;
        Ok(())
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let cores = self.cores.iter().flat_map(SocketSet::descriptors);
        let cores = cores.flat_map(|(socket, beside)| [Some(socket), beside]).flatten();
        let metrics = self.metrics.as_ref().map(AsFd::as_fd);
        [self.memory.as_fd(), self.http.as_fd()].into_iter().chain(metrics).chain(cores)
    }

    fn value(&self) -> String {
        let (memory, http) = (self.memory.as_raw_fd(), self.http.as_raw_fd());
        let mut value = format!("parent={} memory={memory} http={http}", std::process::id());
        if let Some(metrics) = &self.metrics {
            value.push_str(&format!(" metrics={}", metrics.as_raw_fd()));
        }
        for core in &self.cores {
            let sockets = core.descriptors().map(|(socket, beside)| {
                let beside = beside.map_or_else(|| "-".to_owned(), |of| of.as_raw_fd().to_string());
                format!("{}/{beside}", socket.as_raw_fd())
            });
            value.push_str(&format!(" core={}", sockets.collect::<Vec<_>>().join(",")));
        }
        value
    }

    /// Starts a server that takes all of it over. Between the calls that leave descriptors open and
    /// those that do not, this process, which has one thread, executes nothing else.
    pub fn hand_on(&self, command: &mut Command) -> io::Result<Child> {
        self.descriptors().try_for_each(|descriptor| set_inherited(descriptor, true))?;
        let child = command.env(VARIABLE, self.value()).spawn();
        self.descriptors().try_for_each(|descriptor| set_inherited(descriptor, false))?;
        child
    }
}

/// What a server has taken over.
pub struct Inherited {
    /// Of the calls.
    pub memory: OwnedFd,
    /// Where the web side listens.
    pub http: TcpListener,
    /// Where metrics are read.
    pub metrics: Option<TcpListener>,
    /// Of the data cores at start, in their order.
    pub cores: Vec<SocketSet>,
}

impl Inherited {
    /// What this process has inherited, if it has a supervisor.
    ///
    /// # Errors
    /// The variable is not what a supervisor writes, or what it names is not there.
    pub fn find() -> io::Result<Option<Self>> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let value = value.into_string().map_err(|_| wrong("text"))?;
        Self::take(&value).map(Some)
    }

    fn take(value: &str) -> io::Result<Self> {
        let (mut memory, mut http, mut metrics) = (None, None, None);
        let mut cores = Vec::new();
        for field in value.split(' ') {
            match field.split_once('=').ok_or_else(|| wrong(field))? {
                ("parent", id) => stay_with(id)?,
                ("memory", number) => memory = Some(descriptor(number)?),
                ("http", number) => http = Some(TcpListener::from(descriptor(number)?)),
                ("metrics", number) => metrics = Some(TcpListener::from(descriptor(number)?)),
                ("core", numbers) => cores.push(sockets(numbers)?),
                _ => return Err(wrong(field)),
            }
        }
        Ok(Inherited {
            memory: memory.ok_or_else(|| wrong("no memory"))?,
            http: http.ok_or_else(|| wrong("no http"))?,
            metrics,
            cores,
        })
    }
}

/// Ends with the supervisor, which may have ended already.
fn stay_with(parent: &str) -> io::Result<()> {
    let is_there = || match nix::unistd::getppid().to_string() == parent {
        true => Ok(()),
        false => Err(io::Error::other("the supervisor has ended")),
    };
    is_there()?;
    shared::end_with_parent()?;
    is_there()
}

fn descriptor(number: &str) -> io::Result<OwnedFd> {
    inherit(number.parse::<RawFd>().map_err(|_| wrong(number))?)
}

fn sockets(numbers: &str) -> io::Result<SocketSet> {
    let pair = |pair: &str| {
        let (socket, beside) = pair.split_once('/').ok_or_else(|| wrong(pair))?;
        let beside = (beside != "-").then(|| descriptor(beside)).transpose()?;
        Ok((descriptor(socket)?, beside))
    };
    SocketSet::inherited(numbers.split(',').map(pair).collect::<io::Result<Vec<_>>>()?)
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(format!("{VARIABLE} is for supervisors to set: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_supervisor_has_written_is_refused() {
        let own = std::fs::File::open("/dev/null").unwrap();
        let own = format!("memory={} http=4", own.as_raw_fd());
        for value in ["", "memory", "memory=x http=4", "parent=1 memory=2", "core=1-2", "a=b", &own]
        {
            assert!(Inherited::take(value).is_err(), "{value}");
        }
    }
}
