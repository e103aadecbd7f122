//! Where a report comes from: program, moment, command line, machine. What a number is worth
//! without these nobody knows.

use serde::{Deserialize, Serialize};
use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where a report comes from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Origin {
    /// Version of this program.
    pub blast: String,
    /// When it began, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// The command, word by word; empty where a library was called.
    pub command: Vec<String>,
    /// The machine that the load came from.
    pub host: Host,
}

/// A machine.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Host {
    /// Name of its processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: u32,
    /// Kernel and its version.
    pub kernel: String,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Said of a program that was built without optimisation in mind: it is slow, and so may be what it
/// measures.
pub const DEBUG: &str = if cfg!(debug_assertions) { " (debug build)" } else { "" };

impl Origin {
    /// Now, here.
    #[must_use]
    pub fn here() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            blast: format!("{}{}", env!("CARGO_PKG_VERSION"), DEBUG),
            started_ms: u64::try_from(since.as_millis()).unwrap_or(0),
            command: Vec::new(),
            host: Host::here(),
        }
    }

    /// The command as it could be typed again.
    #[must_use]
    pub fn typed(&self) -> String {
        self.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// `2026-11-30 22:15:04 UTC`.
    #[must_use]
    pub fn started(&self) -> String {
        let seconds = self.started_ms / 1_000;
        let (days, of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Year, month and day of a day since 1970-01-01, by counting from March, so that the day that some
/// years have more is the last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let name = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default().to_owned(),
            cores: std::thread::available_parallelism()
                .map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            kernel: format!("{} {}", text(name.sysname()), text(name.release())),
            memory_bytes: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|total| total.trim_end_matches("kB").trim().parse::<u64>().ok())
                .map_or(0, |kib| kib * 1_024),
        }
    }
}

/// The first `name : value` of a file of the kernel.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |started_ms| Origin { started_ms, ..Origin::default() }.started();
        assert_eq!(at(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(at(951_782_399_000), "2000-02-28 23:59:59 UTC");
        assert_eq!(at(951_782_400_999), "2000-02-29 00:00:00 UTC");
        assert_eq!(at(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
        assert_eq!(at(1_796_076_904_000), "2026-11-30 22:15:04 UTC");
    }

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["blast", "--tensor", "a b.st:x", "it's", ""].map(str::to_owned).to_vec();
        let origin = Origin { command: words, ..Origin::default() };
        assert_eq!(origin.typed(), "blast --tensor 'a b.st:x' 'it'\\''s' ''");
    }

    #[test]
    fn fields_of_the_kernel_are_found() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nMemTotal:   2048 kB\n";
        assert_eq!(field(text, "model name"), Some("A CPU: fast"));
        assert_eq!(field(text, "MemTotal"), Some("2048 kB"));
        assert_eq!(field(text, "none"), None);
        let here = Host::here();
        assert!(here.cores > 0 && here.memory_bytes > 0 && here.kernel.starts_with("Linux"));
    }
}
