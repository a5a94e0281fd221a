//! `GET /metrics`: what the machine uses, in bytes and percent.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

#[derive(Serialize)]
pub struct Metrics {
    /// Unix seconds.
    ts: u64,
    cpu_count: usize,
    /// Of all processors together, since the call before (or boot).
    cpu_used_pct: f64,
    mem_total: u64,
    mem_used: u64,
    mem_cache: u64,
    disk_used: u64,
    disk_total: u64,
}

/// Remembers the processor times of the call before.
#[derive(Default)]
pub struct CpuSampler(Mutex<CpuTimes>);

/// In clock ticks, over all processors.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    total: u64,
}

pub fn measure(cpu: &CpuSampler) -> std::io::Result<Metrics> {
    let memory = MemoryUse::parse(&std::fs::read_to_string("/proc/meminfo")?);
    let stat = std::fs::read_to_string("/proc/stat")?;
    let now = CpuTimes::parse(&stat);
    let before = std::mem::replace(&mut *cpu.0.lock().unwrap_or_else(|e| e.into_inner()), now);
    let disk = rustix::fs::statvfs("/")?;
    Ok(Metrics {
        ts: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        cpu_count: stat.lines().filter(|line| is_processor(line)).count(),
        cpu_used_pct: now.used_since(before),
        mem_total: memory.total,
        mem_used: memory.total.saturating_sub(memory.available),
        mem_cache: memory.cache,
        disk_used: disk.f_blocks.saturating_sub(disk.f_bfree) * disk.f_frsize,
        disk_total: disk.f_blocks * disk.f_frsize,
    })
}

/// `cpu0 …`, but not the sum `cpu …`.
fn is_processor(line: &str) -> bool {
    line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

impl CpuTimes {
    /// Reads the first line of /proc/stat: user nice system idle iowait irq softirq steal …
    fn parse(stat: &str) -> Self {
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let total = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        Self { busy: total - idle, total }
    }

    fn used_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 {
            return 0.0;
        }
        let percent = self.busy.saturating_sub(before.busy) as f64 / total as f64 * 100.0;
        (percent * 100.0).round() / 100.0
    }
}

#[derive(Default)]
struct MemoryUse {
    total: u64,
    available: u64,
    cache: u64,
}

impl MemoryUse {
    /// Reads /proc/meminfo, whose figures are in KiB.
    fn parse(text: &str) -> Self {
        let mut memory = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
            let bytes = value.parse::<u64>().unwrap_or(0) * 1024;
            match name {
                "MemTotal:" => memory.total = bytes,
                "MemAvailable:" => memory.available = bytes,
                "Cached:" | "Buffers:" => memory.cache += bytes,
                _ => {}
            }
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_are_not_use() {
        let before = CpuTimes::parse("cpu  10 0 10 80 0 0 0 0 0 0\n");
        let after = CpuTimes::parse("cpu  20 0 20 150 10 0 0 0 0 0\n");
        assert_eq!(before, CpuTimes { busy: 20, total: 100 });
        assert_eq!(after.used_since(before), 20.0);
        assert_eq!(after.used_since(after), 0.0);
    }

    #[test]
    fn counts_processors_and_not_their_sum() {
        assert!(is_processor("cpu0 1 2 3"));
        assert!(!is_processor("cpu  1 2 3"));
        assert!(!is_processor("ctxt 5"));
    }

    #[test]
    fn measures_this_machine() {
        let metrics = measure(&CpuSampler::default()).unwrap();
        assert!(metrics.cpu_count > 0 && metrics.mem_total > metrics.mem_used);
        assert!(metrics.disk_total >= metrics.disk_used && metrics.ts > 1_600_000_000);
    }
}
