//! `butterfly check --fix`: what a person would type so that this host lacks nothing, each with the
//! present value and the reason. Prints only; nothing here changes a host.

use serde::Serialize;
use std::{fmt::Write as _, fs};

/// Connections that the OS may hold until a shard accepts them: what listeners ask for.
const BACKLOG: u64 = 4096;
/// Bytes that a UDP socket may hold while its thread does something else, for QUIC.
const DATAGRAM_BYTES: u64 = 4 << 20;
/// Descriptors of a process.
const FILES: u64 = 1 << 20;
/// Bytes of locked memory under which registered buffers do not fit.
const LOCKED: u64 = 64 << 20;

/// Where settings of the kernel go that are to last.
const SYSCTLS: &str = "/etc/sysctl.d/60-butterfly.conf";
/// Where limits of logins go. The unit has its own.
const LIMITS: &str = "/etc/security/limits.d/60-butterfly.conf";
/// Where values of /sys go that are to be set at each start.
const VALUES: &str = "/etc/tmpfiles.d/butterfly.conf";
const SHARED_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";

/// What the host says of itself.
pub(super) struct Host {
    /// The text of a file of /proc or /sys.
    pub(super) read: fn(&str) -> Option<String>,
    /// Descriptors that a process may have; `None` is no limit.
    pub(super) files: Option<u64>,
    /// Bytes that it may lock.
    pub(super) locked: Option<u64>,
}

/// One thing that the host lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fix {
    /// What it is called.
    pub(super) what: &'static str,
    /// What it is now.
    pub(super) present: String,
    /// Why it matters.
    pub(super) reason: &'static str,
    /// The file that makes it last.
    pub(super) file: &'static str,
    /// The line in that file.
    pub(super) line: String,
    /// What puts it in force at once; empty where a new login does.
    pub(super) command: String,
}

/// The text of a file, of this host.
pub(super) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// All that it lacks, in the order of the report.
pub(super) fn lacks(host: &Host) -> Vec<Fix> {
    let least = |what, path: &str, least: u64, reason| {
        let present = (host.read)(path)?;
        let enough = present.parse::<u64>().is_ok_and(|value| value >= least);
        (!enough).then(|| sysctl(what, present, least, reason))
    };
    let switched_off = (host.read)("/proc/sys/kernel/io_uring_disabled")
        .filter(|value| value != "0")
        .map(|present| {
            let reason =
                "shards do all network I/O by io_uring; 2 forbids it, 1 leaves it to a group";
            sysctl("kernel.io_uring_disabled", present, 0, reason)
        });
    let found = [
        switched_off,
        least(
            "net.core.somaxconn",
            "/proc/sys/net/core/somaxconn",
            BACKLOG,
            "many clients that connect in one moment wait here until a shard accepts them",
        ),
        least(
            "net.core.rmem_max",
            "/proc/sys/net/core/rmem_max",
            DATAGRAM_BYTES,
            "QUIC only: datagrams that come while the listener is busy are dropped beyond it",
        ),
        least(
            "net.core.wmem_max",
            "/proc/sys/net/core/wmem_max",
            DATAGRAM_BYTES,
            "QUIC only: bursts of datagrams wait here for the network card",
        ),
        huge_pages(host),
        governor(host),
        limit(
            "open files",
            host.files,
            FILES,
            "nofile",
            "a descriptor for each stream of QUIC, some for each worker; the unit has its own",
        ),
        limit(
            "locked memory",
            host.locked,
            LOCKED,
            "memlock",
            "registered buffers, and pinning for a GPU; the unit has its own",
        ),
    ];
    found.into_iter().flatten().collect()
}

fn sysctl(what: &'static str, present: String, wanted: u64, reason: &'static str) -> Fix {
    let line = format!("{what} = {wanted}");
    Fix {
        what,
        present,
        reason,
        file: SYSCTLS,
        line,
        command: format!("sysctl -w {what}={wanted}"),
    }
}

/// The segment of slots is shared memory, for which huge pages have a switch of their own.
fn huge_pages(host: &Host) -> Option<Fix> {
    let text = (host.read)(SHARED_PAGES)?;
    let present = text.split('[').nth(1)?.split(']').next()?;
    let fine = ["advise", "always", "within_size", "force"].contains(&present);
    (!fine).then(|| {
        let reason = "slots of 2 MiB each: fewer page-table walks on long rows";
        value("huge pages of shared memory", present, reason, SHARED_PAGES, "advise")
    })
}

fn governor(host: &Host) -> Option<Fix> {
    let present = (host.read)(GOVERNOR)?;
    (present != "performance").then(|| {
        let reason = "a core that was clocked down answers its first requests late";
        let all = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
        value("CPU governor", &present, reason, all, "performance")
    })
}

fn value(what: &'static str, present: &str, reason: &'static str, path: &str, wanted: &str) -> Fix {
    Fix {
        what,
        present: present.to_owned(),
        reason,
        file: VALUES,
        line: format!("w {path} - - - - {wanted}"),
        command: format!("echo {wanted} | tee {path} >/dev/null"),
    }
}

/// A limit of a login.
fn limit(
    what: &'static str,
    present: Option<u64>,
    least: u64,
    name: &str,
    reason: &'static str,
) -> Option<Fix> {
    let present = present.filter(|value| *value < least)?;
    let wanted = if name == "memlock" { "unlimited".to_owned() } else { least.to_string() };
    let line = format!("* - {name} {wanted}");
    let present = present.to_string();
    Some(Fix { what, present, reason, file: LIMITS, line, command: String::new() })
}

/// For people.
pub(super) fn as_text(fixes: &[Fix]) -> String {
    if fixes.is_empty() {
        return "nothing to change here".to_owned();
    }
    let mut text = String::new();
    for Fix { what, present, reason, file, line, command } in fixes {
        let _ = writeln!(text, "{what}: {present}\n  why:    {reason}");
        if command.is_empty() {
            let _ = writeln!(text, "  now:    at the next login");
        } else {
            let _ = writeln!(text, "  now:    {command}");
        }
        let _ = writeln!(text, "  always: {line}   in {file}\n");
    }
    text + "As one script for root: butterfly check --fix --shell"
}

/// A script for root that does all of it.
pub(super) fn as_script(fixes: &[Fix]) -> String {
    let mut text =
        "#!/bin/sh\n# Written by `butterfly check --fix --shell`. To undo: remove the files \
                    and start the host anew.\nset -eu\n"
            .to_owned();
    for file in [SYSCTLS, VALUES, LIMITS] {
        let of_file: Vec<&Fix> = fixes.iter().filter(|fix| fix.file == file).collect();
        if of_file.is_empty() {
            continue;
        }
        // Behind what an earlier script wrote, which no longer lacks and so is not named again.
        let _ = writeln!(text, "\ncat >> {file} <<'END'");
        for fix in &of_file {
            let _ = writeln!(text, "# {}; it was {}\n{}", fix.reason, fix.present, fix.line);
        }
        text.push_str("END\n");
        for fix in of_file.iter().filter(|fix| !fix.command.is_empty()) {
            let _ = writeln!(text, "{}", fix.command);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    /// A host that lacks all.
    fn poor() -> Host {
        let read: fn(&str) -> Option<String> = |path| {
            let text = match path {
                "/proc/sys/kernel/io_uring_disabled" => "2",
                "/proc/sys/net/core/somaxconn" => "128",
                SHARED_PAGES => "always within_size advise [never] deny force",
                GOVERNOR => "powersave",
                _ => "212992",
            };
            Some(text.to_owned())
        };
        Host { read, files: Some(1024), locked: Some(8 << 20) }
    }

    #[test]
    fn ops_what_a_host_lacks_is_named_with_value_reason_and_command() {
        let fixes = lacks(&poor());
        let names: Vec<&str> = fixes.iter().map(|fix| fix.what).collect();
        assert_eq!(names.len(), 8, "{names:?}");
        let somaxconn = fixes.iter().find(|fix| fix.what == "net.core.somaxconn").expect("there");
        assert_eq!(somaxconn.present, "128");
        assert_eq!(somaxconn.command, "sysctl -w net.core.somaxconn=4096");
        assert_eq!(somaxconn.line, "net.core.somaxconn = 4096");
        let text = as_text(&fixes);
        assert!(fixes.iter().all(|fix| text.contains(fix.reason) && text.contains(&fix.line)));
    }

    #[test]
    fn ops_a_host_that_lacks_nothing_is_left_alone() {
        let read: fn(&str) -> Option<String> = |path| match path {
            "/proc/sys/kernel/io_uring_disabled" => Some("0".to_owned()),
            SHARED_PAGES => Some("always [advise] never".to_owned()),
            // Virtual machines have no governor.
            GOVERNOR => None,
            _ => Some("16777216".to_owned()),
        };
        let fixes = lacks(&Host { read, files: Some(FILES), locked: None });
        assert_eq!(fixes, []);
        assert_eq!(as_text(&fixes), "nothing to change here");
    }

    #[test]
    fn ops_a_later_script_keeps_what_an_earlier_one_wrote() {
        let folder = Folder::new("fix");
        let file = folder.0.join("60-butterfly.conf");
        let fixes = lacks(&poor());
        let limits = fixes.into_iter().filter(|fix| fix.file == LIMITS);
        let lines: Vec<String> = limits
            .map(|fix| {
                let script = as_script(std::slice::from_ref(&fix));
                let script = script.replace(LIMITS, file.to_str().expect("text"));
                let done = Command::new("sh").args(["-c", &script]).status().expect("a shell");
                assert!(done.success(), "{script}");
                fix.line
            })
            .collect();
        assert_eq!(lines.len(), 2);
        let text = fs::read_to_string(&file).expect("written");
        assert!(lines.iter().all(|line| text.contains(line)), "{text}");
    }

    #[test]
    fn ops_the_script_is_one_that_a_shell_takes() {
        let script = as_script(&lacks(&poor()));
        for file in [SYSCTLS, VALUES, LIMITS] {
            assert!(script.contains(&format!("cat >> {file}")), "{script}");
        }
        let mut shell =
            Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().expect("a shell");
        shell.stdin.take().expect("piped").write_all(script.as_bytes()).expect("reads");
        assert!(shell.wait().expect("ends").success(), "{script}");
    }
}
