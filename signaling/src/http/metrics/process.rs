//! What the kernel knows of this process.
#![forbid(unsafe_code)]

use super::text::Text;

/// Writes the usual metrics of a process, those that can be read.
pub fn write(text: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let kib = |text: &str| text.trim().trim_end_matches(" kB").parse::<u64>().ok();
    if let Some(resident) = line("VmRSS:").and_then(kib) {
        let help = "Resident memory.";
        text.gauge("process_resident_memory_bytes", help).sample(&[], resident * 1024);
    }
    if let Some(threads) = line("Threads:").and_then(|text| text.trim().parse::<u64>().ok()) {
        text.gauge("process_threads", "Threads.").sample(&[], threads);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The one by which they are counted is closed again.
        let open = files.count().saturating_sub(1);
        text.gauge("process_open_fds", "Open descriptors.").sample(&[], open);
    }
    if let Ok(limit) = rlimit::Resource::NOFILE.get_soft() {
        text.gauge("process_max_fds", "Descriptors that may be open.").sample(&[], limit);
    }
}
