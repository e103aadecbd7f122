//! What this host gives the process: cores it may use, the share of them, memory and descriptor
//! limits.

use rustix::{
    process::{Resource, getrlimit},
    thread::sched_getaffinity,
};
use std::{fs, path::Path};

/// The CPUs that this process may run on, in the OS's numbering. At least one.
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).map_or_else(
        |_| vec![0],
        |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
    );
    if allowed.is_empty() { vec![0] } else { allowed }
}

/// CPUs' worth of time that the control group grants, if it limits it.
pub(crate) fn quota() -> Option<f64> {
    let line = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = line.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
    let root = Path::new("/sys/fs/cgroup");
    let mut folder = root.join(path);
    let mut least: Option<f64> = None;
    // A group is bound by its own limit and by those of all groups above it.
    loop {
        if let Some(limit) =
            fs::read_to_string(folder.join("cpu.max")).ok().and_then(|text| parse_quota(&text))
        {
            least = Some(least.map_or(limit, |found| found.min(limit)));
        }
        if folder == root || !folder.pop() {
            return least;
        }
    }
}

/// `quota period` in microseconds, or `max period`.
fn parse_quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (period > 0.0).then(|| quota / period)
}

/// Soft and hard limit; `None` is no limit.
pub(crate) fn limit(resource: Resource) -> (Option<u64>, Option<u64>) {
    let limit = getrlimit(resource);
    (limit.current, limit.maximum)
}

/// One `key: value kB` line of /proc/meminfo, bytes.
pub(crate) fn meminfo(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(key))?;
    let mut words = line.split_whitespace().skip(1);
    let number: u64 = words.next()?.parse().ok()?;
    Some(if words.next() == Some("kB") { number << 10 } else { number })
}

/// The bracketed choice of a file such as /sys/kernel/mm/transparent_hugepage/shmem_enabled.
pub(crate) fn chosen(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let start = text.find('[')? + 1;
    let end = text[start..].find(']')? + start;
    Some(text[start..end].to_owned())
}

/// The running kernel's release.
pub(crate) fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_read() {
        assert_eq!(parse_quota("200000 100000\n"), Some(2.0));
        assert_eq!(parse_quota("max 100000\n"), None);
        assert_eq!(parse_quota("50000 0"), None);
        assert_eq!(parse_quota(""), None);
    }

    #[test]
    fn this_host_answers() {
        assert!(!cpus().is_empty());
        assert!(meminfo("MemTotal").is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(meminfo("NoSuchKey"), None);
    }
}
