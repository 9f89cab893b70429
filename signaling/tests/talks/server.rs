//! The server under test: the binary, on ports of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Only ends the tests of what does not happen: longer than any hiccup of a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it logged before it served.
    pub start_log: Vec<String>,
    lines: mpsc::Receiver<String>,
}

/// The binary with a clean environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opencall-sfu"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A UDP port that is free now.
pub fn free_udp_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it and waits until it serves.
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_in(flags, &[])
    }

    /// The same with environment variables.
    pub fn start_in(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_by(command, u16::MAX, flags, variables)
    }

    /// With so many open files at most.
    pub fn start_with_open_files(max: u32, flags: &[&str]) -> Self {
        let limited = || {
            let mut command = Command::new("sh");
            let script = format!("ulimit -n {max}; exec \"$0\" \"$@\"");
            command.args(["-c", &script, env!("CARGO_BIN_EXE_opencall-sfu")]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        Self::start_by(limited, u16::MAX, flags, &[])
    }

    /// With so many ports for data cores.
    pub fn start_with_ports(ports: u16, flags: &[&str]) -> Self {
        Self::start_by(command, ports, flags, &[])
    }

    fn start_by(
        command: impl Fn() -> Command,
        ports: u16,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        // Between looking for a free port and taking it, another test may have taken it.
        let start = |_| Self::try_start(&command, ports, flags, variables);
        (0..5).find_map(start).expect("the server does not start")
    }

    fn try_start(
        command: impl Fn() -> Command,
        ports: u16,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        let first = free_udp_port();
        let (port, last) = (first.to_string(), first.saturating_add(ports - 1).to_string());
        let mut child = command()
            .args(["--http-listen", "127.0.0.1:0", "--workers", "1", "--pin", "false"])
            .args(["--rtc-min-port", &port, "--rtc-max-port", &last])
            .args(flags)
            .envs(variables.iter().copied())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("{line}");
                let _ = sender.send(line);
            }
        });
        let mut start_log = Vec::new();
        loop {
            // The channel ends with the server.
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            };
            if let Some((_, rest)) = line.split_once("ready: http") {
                let (_, rest) = rest.split_once("://").unwrap();
                let address = rest.split('/').next().unwrap().parse().unwrap();
                return Some(Server { child, address, start_log, lines });
            }
            start_log.push(line);
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Kills the server that this supervisor runs, as the kernel does when memory is out, and waits
    /// until another serves.
    pub fn kill_supervised(&self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = std::fs::read_to_string(children).unwrap();
        let status = Command::new("kill").args(["-KILL", children.trim()]).status().unwrap();
        assert!(status.success(), "{children}");
        self.logged("was killed by signal 9");
        self.logged("ready: http");
    }

    /// The processes that it has started, and what each does.
    pub fn children(&self) -> Vec<(u32, char)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let lists = tasks.flatten().map(|task| task.path().join("children"));
        let lists: String = lists.filter_map(|list| std::fs::read_to_string(list).ok()).collect();
        let state = |id: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            Some((id, stat.rsplit_once(") ")?.1.chars().next()?))
        };
        lists.split_whitespace().filter_map(|id| state(id.parse().ok()?)).collect()
    }

    /// Waits until it has logged a line with these words, and returns it.
    pub fn logged(&self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("it logs so");
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a line with this word is among those that it has logged since it was last asked.
    pub fn has_logged(&self, word: &str) -> bool {
        self.lines.try_iter().any(|line| line.contains(word))
    }

    /// What it logged from when it served to its end.
    pub fn log_to_end(&self) -> String {
        self.lines.iter().collect::<Vec<_>>().join("\n")
    }

    /// How nice one of its threads is, if it has one of that name.
    pub fn nice_of(&self, thread: &str) -> Option<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.flatten().find_map(|task| {
            // A thread may end while it is looked at.
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            let is_it = name.split_once('(')?.1 == thread;
            rest.split_ascii_whitespace().nth(16).filter(|_| is_it)?.parse().ok()
        })
    }

    /// Resident memory, KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary to its end: exit code, standard output, standard error.
pub fn run_to_end(flags: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut child = command().args(flags).envs(variables.iter().copied()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("it runs: {flags:?} {variables:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.code(), stdout, stderr)
}
