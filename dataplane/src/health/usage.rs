//! What a process takes of this host, from /proc.

use crate::host;
use std::{fs, time::Duration};

/// The unit of times in /proc, milliseconds: a hundredth of a second on every machine that this
/// runs on.
const TICK_MS: u64 = 10;

/// What a worker's process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Share of the CPUs it may use since the measurement before, 0 to 1.
    pub(crate) cpu: f64,
    /// CPUs it may use.
    pub(crate) cpus: u32,
    /// Resident bytes, shared memory with them.
    pub(crate) resident: u64,
    /// Bytes that there are for it: the host's, or less where a control group says so.
    pub(crate) memory: u64,
}

/// Reads the figures of one process again and again.
#[derive(Debug)]
pub(crate) struct Meter {
    pid: u32,
    memory: u64,
    /// CPU time and moment of the reading before.
    before: Option<(Duration, Duration)>,
}

impl Meter {
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid, memory: host::memory_granted().unwrap_or(u64::MAX), before: None }
    }

    /// The figures now. `None` where the process is gone, and the first time: a share needs two
    /// moments.
    pub(crate) fn read(&mut self, now: Duration) -> Option<Usage> {
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.pid)).ok();
        let cpu_time = parse_stat(&of("stat")?)?;
        let status = of("status")?;
        let resident = host::bytes_of(&status, "VmRSS")?;
        let cpus = parse_cpus(&status)?;
        let (cpu_before, at_before) = self.before.replace((cpu_time, now))?;
        let passed = now.checked_sub(at_before).filter(|passed| !passed.is_zero())?;
        let took = cpu_time.saturating_sub(cpu_before).as_secs_f64();
        let cpu = took / passed.as_secs_f64() / f64::from(cpus);
        Some(Usage { cpu: cpu.clamp(0.0, 1.0), cpus, resident, memory: self.memory })
    }
}

/// Time on a CPU, of all threads: fields 14 and 15 of /proc/PID/stat, counted behind the program's
/// name, which may hold anything.
fn parse_stat(text: &str) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = fields.next()?.ok()?.saturating_add(fields.next()?.ok()?);
    Some(Duration::from_millis(ticks.saturating_mul(TICK_MS)))
}

/// How many CPUs the mask of /proc/PID/status allows.
fn parse_cpus(status: &str) -> Option<u32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"))?;
    let count = mask.chars().filter_map(|c| c.to_digit(16)).map(u32::count_ones).sum();
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_04_proc_is_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 0 0 0 0 120 30 0 0 20 0 1 0 9 1 1";
        assert_eq!(parse_stat(stat), Some(Duration::from_millis(1500)));
        assert_eq!(parse_stat("7 (a) S 1 2"), None);
        assert_eq!(parse_cpus("Name:\tx\nCpus_allowed:\tff,00000003\n"), Some(10));
        assert_eq!(parse_cpus("Cpus_allowed:\t00\n"), None);
    }

    #[test]
    fn health_04_this_process_has_figures_and_a_gone_one_has_none() {
        let mut meter = Meter::new(std::process::id());
        assert_eq!(meter.read(Duration::ZERO), None, "a share needs two moments");
        let usage = meter.read(Duration::from_secs(1)).expect("this process is there");
        assert!((0.0..=1.0).contains(&usage.cpu) && usage.cpus > 0);
        assert!(usage.resident > 0 && usage.resident < usage.memory);
        // Process numbers end far below.
        assert_eq!(Meter::new(u32::MAX).read(Duration::ZERO), None);
    }
}
