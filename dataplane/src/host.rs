//! What this host gives the process: cores it may use, the share of them, memory and descriptor
//! limits.

use rustix::{
    process::{Resource, getrlimit},
    thread::sched_getaffinity,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The CPUs that this process may run on, in the OS's numbering. At least one.
pub(crate) fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).map_or_else(
        |_| vec![0],
        |set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
    );
    if allowed.is_empty() { vec![0] } else { allowed }
}

/// The host's name and this process's number: tells nodes apart for people.
pub(crate) fn default_name() -> String {
    let host = rustix::system::uname();
    let host: String = host.nodename().to_string_lossy().chars().take(48).collect();
    format!("{host}-{}", std::process::id())
}

/// CPUs' worth of time that the control group grants, if it limits it.
pub(crate) fn quota() -> Option<f64> {
    groups().filter_map(|group| parse_quota(&read(&group, "cpu.max")?)).reduce(f64::min)
}

/// Bytes that this process can still take: what the host has, or less where a control group says
/// so.
pub(crate) fn memory_left() -> Option<u64> {
    let left = |group: PathBuf| -> Option<u64> {
        let limit: u64 = read(&group, "memory.max")?.trim().parse().ok()?;
        let used: u64 = read(&group, "memory.current")?.trim().parse().ok()?;
        Some(limit.saturating_sub(used))
    };
    groups().filter_map(left).chain(meminfo("MemAvailable")).min()
}

/// Bytes that this process can have in all.
pub(crate) fn memory_granted() -> Option<u64> {
    let limit = |group: PathBuf| -> Option<u64> { read(&group, "memory.max")?.trim().parse().ok() };
    groups().filter_map(limit).chain(meminfo("MemTotal")).min()
}

fn read(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

/// The control group of this process and all above it: each one's limits bind.
fn groups() -> impl Iterator<Item = PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let line = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = line.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.map(|path| root.join(path.trim_start_matches('/')));
    let all = own.iter().flat_map(|own| own.ancestors());
    let all: Vec<_> = all.filter(|group| group.starts_with(root)).map(Path::to_owned).collect();
    all.into_iter()
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
fn meminfo(key: &str) -> Option<u64> {
    bytes_of(&fs::read_to_string("/proc/meminfo").ok()?, key)
}

/// The same in any text of that form, /proc/PID/status for example.
pub(crate) fn bytes_of(text: &str, key: &str) -> Option<u64> {
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
        let (left, total) = (memory_left(), meminfo("MemTotal"));
        assert!(left > Some(0) && left < total, "{left:?} of {total:?}");
    }
}
