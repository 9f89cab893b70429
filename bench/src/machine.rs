//! What the figures were measured on.
#![forbid(unsafe_code)]

use std::fs::read_to_string;
use std::process::Command;

use crate::result::Machine;

/// The machine.
pub fn machine() -> Machine {
    let cpus = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Machine {
        cpu_model: model.map_or("unknown", |(_, name)| name).to_owned(),
        cpus: cpus.lines().filter(|line| line.starts_with("processor")).count() as u64,
        memory_bytes: kib.unwrap_or(0) * 1024,
    }
}

/// The kernel's release.
pub fn kernel() -> String {
    read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The commit of the checkout that we are started in.
pub fn commit() -> String {
    let said = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = said.ok().filter(|output| output.status.success());
    let commit = said.and_then(|output| String::from_utf8(output.stdout).ok());
    commit.map_or("unknown".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_is_known() {
        let machine = super::machine();
        assert!(machine.cpus > 0 && machine.memory_bytes > 1 << 20);
        assert!(!super::kernel().is_empty());
    }
}
