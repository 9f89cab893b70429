//! The server that is measured: started here, or someone else's; its CPU and memory as the kernel
//! counts them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::result::ThreadCpu;

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server says when it serves.
const READY: &str = "ready: http://";

/// What it says for each data core when it ends.
const LAST_WORD: &str = "data core stopped";

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Its program.
    pub program: PathBuf,
    /// Data cores.
    pub workers: usize,
    /// `uring`, `mmsg` or `auto`.
    pub io: String,
    /// Budget for each receiver, as the server takes it.
    pub outgoing_bitrate: String,
    /// CPUs it may run on; empty: all.
    pub cpus: Vec<usize>,
    /// The address it takes connections and media on.
    pub listen: Ipv4Addr,
    /// The network namespace it runs in, where it is not ours: `/proc/PID/ns/net`.
    pub namespace: Option<PathBuf>,
    /// Participants who send from which on a room has a stage; 0: never.
    pub stage_from: usize,
    /// More of its flags.
    pub more: Vec<String>,
}

impl ServerOptions {
    /// The server beside this program, on loopback, with one data core.
    pub fn beside_us() -> Self {
        ServerOptions {
            program: beside_us(),
            workers: 1,
            io: "auto".to_owned(),
            outgoing_bitrate: "1700k".to_owned(),
            cpus: Vec::new(),
            listen: Ipv4Addr::LOCALHOST,
            namespace: None,
            stage_from: 0,
            more: Vec::new(),
        }
    }

    /// Its program, in its network namespace.
    fn command(&self) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(&self.program) };
        // It becomes the program, so that its process is the server's.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.display())).arg("--").arg(&self.program);
        command
    }
}

/// Lines of a server that ended by itself which tell why: a panic takes three.
const LAST_WORDS: usize = 3;

/// A server that was started here. Dropped, it is killed.
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Where its WebSocket is.
    pub url: String,
}

impl Server {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// Why it does not, with its own last words.
    pub fn start(options: &ServerOptions) -> Result<Server, String> {
        if !options.program.is_file() {
            return Err(format!(
                "there is no server at {}: build it (cargo build --release --bin opencall-sfu), \
                 name one with --server, or load a running one with --target",
                options.program.display()
            ));
        }
        // Between looking for free ports and taking them, another program may have taken one.
        let mut said = String::new();
        for _ in 0..5 {
            match Self::try_start(options) {
                Ok(server) => return Ok(server),
                Err(words) => said = words,
            }
        }
        Err(format!("{} does not start: {said}", options.program.display()))
    }

    fn try_start(options: &ServerOptions) -> Result<Server, String> {
        let port = free_udp_ports(options.workers).map_err(|error| error.to_string())?;
        let mut command = options.command();
        let listen = options.listen.to_string();
        command
            .args(["--http-listen", &format!("{listen}:0"), "--listen-ip", &listen])
            .args([
                "--rtc-min-port",
                &port.to_string(),
                "--rtc-max-port",
                "65535",
                "--io",
                &options.io,
            ])
            .args(["--workers", &options.workers.to_string()])
            .args(["--outgoing-bitrate", &options.outgoing_bitrate, "--log", "info"])
            .args(&options.more)
            .env_clear()
            // Older servers have no such flag, and leave variables they do not know alone.
            .env("OPENCALL_STAGE_FROM", options.stage_from.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn_on(&mut command, &options.cpus)?;
        let Some(stderr) = child.stderr.take() else { return Err("no standard error".into()) };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut said = String::new();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if let Some((_, rest)) = line.split_once(READY) {
                let address = rest.split('/').next().unwrap_or_default();
                let url = format!("ws://{address}/ws");
                return Ok(Server { child, lines, url });
            }
            said = line;
        }
        // It has ended, or is of no use.
        let _ = child.kill();
        let _ = child.wait();
        Err(said)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// If it has ended by itself: how, and its last words, in a line.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let lines: Vec<String> = self.lines.iter().filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
        Some(match last {
            [] => status.to_string(),
            words => format!("{status}; its last words: {}", words.join(" / ")),
        })
    }

    /// Ends it; what its data cores say of themselves.
    pub fn stop(self) -> CoreCounters {
        let pid = Pid::from_raw(self.child.id() as i32);
        // A server that is gone already has said its last word, too.
        let _ = kill(pid, Signal::SIGTERM);
        let mut counters = CoreCounters::default();
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            counters.add_line(&line);
        }
        counters
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What data cores did in their life.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CoreCounters {
    /// Datagrams sent.
    pub sent: u64,
    /// Messages they went in: trains and single ones.
    pub trains: u64,
    /// System calls these took; 0 if it does not tell.
    pub send_calls: u64,
    /// What was dropped and why, as the cores say it.
    pub dropped: Vec<String>,
}

impl CoreCounters {
    fn add_line(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once(LAST_WORD) else { return };
        let number = |name: &str| {
            let (_, value) = rest.split_once(&format!(" {name}="))?;
            value.split(' ').next()?.parse::<u64>().ok()
        };
        self.sent += number("sent").unwrap_or(0);
        self.trains += number("trains").unwrap_or(0);
        self.send_calls += number("send_calls").unwrap_or(0);
        if let Some((_, dropped)) = rest.split_once("dropped=\"") {
            let dropped = dropped.split('"').next().unwrap_or_default();
            self.dropped.extend((!dropped.is_empty()).then(|| dropped.to_owned()));
        }
    }

    /// Segments of a message, if anything was sent.
    pub fn mean_segments(&self) -> Option<f64> {
        (self.trains > 0).then(|| self.sent as f64 / self.trains as f64)
    }

    /// Packets of a system call, if it tells.
    pub fn packets_per_call(&self) -> Option<f64> {
        (self.send_calls > 0).then(|| self.sent as f64 / self.send_calls as f64)
    }
}

/// A child inherits the affinity of the thread that starts it.
fn spawn_on(command: &mut Command, cpus: &[usize]) -> Result<Child, String> {
    if cpus.is_empty() {
        return command.spawn().map_err(|error| error.to_string());
    }
    let ours = sched_getaffinity(Pid::from_raw(0)).map_err(|error| error.to_string())?;
    pin(cpus)?;
    let child = command.spawn().map_err(|error| error.to_string());
    sched_setaffinity(Pid::from_raw(0), &ours).map_err(|error| error.to_string())?;
    child
}

/// Binds the calling thread, and those it starts from now on, to CPUs.
///
/// # Errors
/// The kernel's, for a CPU that is not there.
pub fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|error| format!("CPUs {cpus:?}: {error}"))
}

/// Binds a process, all its threads and those it will start, to CPUs.
///
/// # Errors
/// The kernel's, for a process that is not there or not ours.
pub fn pin_process(pid: u32, cpus: &[usize]) -> Result<(), String> {
    let wrong = |error: &dyn std::fmt::Display| format!("process {pid} cannot be pinned: {error}");
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(|error| wrong(&error))?;
    }
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| wrong(&error))?;
    for task in tasks.flatten() {
        let id = task.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(id) = id else { continue };
        sched_setaffinity(Pid::from_raw(id), &set).map_err(|error| wrong(&error))?;
    }
    Ok(())
}

/// The CPUs this thread may run on.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// The first of `count` ports in a row that are free now.
fn free_udp_ports(count: usize) -> std::io::Result<u16> {
    let mut last = None;
    for _ in 0..20 {
        let first = UdpSocket::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        let more: Vec<_> = (1..count)
            .map(|i| UdpSocket::bind(("127.0.0.1", port.saturating_add(i as u16))))
            .collect();
        match more.into_iter().find_map(Result::err) {
            None => return Ok(port),
            error => last = error,
        }
    }
    Err(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

/// Where the server lies that belongs to this program: beside it.
pub fn beside_us() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let folder = here.parent().unwrap_or(Path::new("."));
    // Test executables lie one folder deeper.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join("opencall-sfu")
}

/// CPU time that processes have taken, seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// In user space.
    pub user_s: f64,
    /// In the kernel.
    pub system_s: f64,
}

impl CpuTime {
    /// What was taken since `before`.
    pub fn since(self, before: CpuTime) -> CpuTime {
        CpuTime {
            user_s: (self.user_s - before.user_s).max(0.0),
            system_s: (self.system_s - before.system_s).max(0.0),
        }
    }

    /// What was taken in both times.
    pub fn plus(self, later: CpuTime) -> CpuTime {
        CpuTime { user_s: self.user_s + later.user_s, system_s: self.system_s + later.system_s }
    }

    /// Both.
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

/// CPU time that the whole machine has spent at work, seconds: ours and everyone else's.
pub fn machine_busy_s() -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&stat) as f64 / ticks as f64
}

/// The first line of `/proc/stat` without its idle times, the fourth and the fifth, and without
/// guests, who are counted in the first two.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let numbers = line.split_whitespace().skip(1).take(8).enumerate();
    numbers.filter(|(at, _)| !matches!(at, 3 | 4)).filter_map(|(_, n)| n.parse::<u64>().ok()).sum()
}

/// Watches processes.
pub struct Watch {
    pids: Vec<u32>,
    tick_s: f64,
    threads: HashMap<u32, CpuTime>,
}

impl Watch {
    /// Watches these.
    pub fn new(pids: Vec<u32>) -> Self {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Watch { pids, tick_s: 1.0 / ticks as f64, threads: HashMap::new() }
    }

    /// What they have taken, ended threads included.
    pub fn cpu(&self) -> CpuTime {
        self.pids.iter().fold(CpuTime::default(), |sum, pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let cpu = Stat::parse(&stat, self.tick_s).map(|stat| stat.cpu).unwrap_or_default();
            sum.plus(cpu)
        })
    }

    /// What each thread took since the last call, of `seconds`.
    pub fn threads(&mut self, seconds: f64) -> Vec<ThreadCpu> {
        let mut now = HashMap::new();
        let mut list = Vec::new();
        for pid in &self.pids {
            let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for task in tasks.flatten() {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                let Some(stat) = Stat::parse(&stat, self.tick_s) else { continue };
                let before = self.threads.get(&stat.id).copied().unwrap_or(stat.cpu);
                let taken = stat.cpu.since(before);
                now.insert(stat.id, stat.cpu);
                list.push(ThreadCpu {
                    name: stat.name,
                    cpu: stat.processor,
                    user: taken.user_s / seconds,
                    system: taken.system_s / seconds,
                });
            }
        }
        self.threads = now;
        list
    }

    /// How often their threads have gone to sleep, those that are still there.
    pub fn sleeps(&self) -> u64 {
        let tasks =
            |pid: &u32| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
        self.pids
            .iter()
            .flat_map(tasks)
            .flatten()
            .filter_map(|task| status_number(&task.path(), "voluntary_ctxt_switches:"))
            .sum()
    }

    /// Resident memory, bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.pids.iter().filter_map(|&pid| resident_kib(pid)).sum::<u64>() * 1024
    }

    /// The first that has ended: without memory it is no more, even if its parent has not noticed.
    pub fn ended(&self) -> Option<u32> {
        self.pids.iter().copied().find(|&pid| resident_kib(pid).is_none())
    }
}

fn resident_kib(pid: u32) -> Option<u64> {
    status_number(&PathBuf::from(format!("/proc/{pid}")), "VmRSS:")
}

/// A number of a `/proc/…/status`, its unit left out.
fn status_number(of: &Path, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(of.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One line of `/proc/…/stat`.
struct Stat {
    id: u32,
    name: String,
    cpu: CpuTime,
    processor: u64,
}

impl Stat {
    fn parse(line: &str, tick_s: f64) -> Option<Stat> {
        // The name may hold anything, brackets included.
        let (head, rest) = line.rsplit_once(") ")?;
        let (id, name) = head.split_once(" (")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.trim().parse::<u64>().ok();
        Some(Stat {
            id: id.parse().ok()?,
            name: name.to_owned(),
            cpu: CpuTime {
                user_s: number(11)? as f64 * tick_s,
                system_s: number(12)? as f64 * tick_s,
            },
            processor: number(36)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_even_with_brackets_in_the_name() {
        let rest: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let line = format!("77 (a) b (c) {}\n", rest.join(" "));
        let stat = Stat::parse(&line, 0.01).expect("read");
        assert_eq!((stat.id, stat.name.as_str(), stat.processor), (77, "a) b (c", 39));
        assert_eq!(stat.cpu, CpuTime { user_s: 0.14, system_s: 0.15 });
        assert!(Stat::parse("77 (a", 0.01).is_none());
    }

    #[test]
    fn the_machine_works_at_least_as_much_as_we_do() {
        let stat = "cpu  10 20 30 1000 2000 3 4 5 6 7\ncpu0 1 2 3 4\n";
        assert_eq!(busy_ticks(stat), 72);
        assert_eq!(busy_ticks(""), 0);
        assert!(machine_busy_s() > 0.0);
    }

    #[test]
    fn we_can_watch_ourselves() {
        let mut watch = Watch::new(vec![std::process::id()]);
        assert!(watch.rss_bytes() > 100_000);
        assert!(!watch.threads(1.0).is_empty());
        let slept = watch.sleeps();
        std::thread::sleep(Duration::from_millis(1));
        assert!(watch.sleeps() > slept);
        let before = watch.cpu();
        while watch.cpu().since(before).total_s() < 0.02 {}
    }

    #[test]
    fn who_has_ended_is_found_before_its_parent_has_noticed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let watch = Watch::new(vec![std::process::id(), child.id()]);
        assert_eq!(watch.ended(), None);
        child.kill().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while watch.ended() != Some(child.id()) {
            assert!(Instant::now() < deadline, "it is still there");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
    }

    #[test]
    fn the_last_words_of_two_cores_are_added() {
        let mut counters = CoreCounters::default();
        counters.add_line("INFO data core stopped core=0 received=9 forwarded=8 piped=0 sent=30 trains=10 send_calls=4 dropped=\"srtp_replay 2\"");
        counters.add_line("INFO data core stopped core=1 received=9 forwarded=8 piped=0 sent=10 trains=10 send_calls=1 dropped=\"\"");
        counters.add_line("INFO something else sent=7");
        assert_eq!((counters.sent, counters.trains), (40, 20));
        assert_eq!(counters.dropped, ["srtp_replay 2"]);
        assert_eq!(counters.mean_segments(), Some(2.0));
        assert_eq!(counters.packets_per_call(), Some(8.0));
        assert_eq!(CoreCounters::default().packets_per_call(), None);
    }
}
