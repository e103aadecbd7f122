//! What the machine must have, found out by trying, each lack with its remedy.

use io_uring::opcode;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::{fmt, io};

pub(crate) const REMEDY_MEMORY: &str = "memory is short: configure fewer or smaller receive \
     buffers, or raise the memory limit of the container";

const REMEDY_SYSCTL: &str = "io_uring is switched off on this machine: as root run \
     `sysctl -w kernel.io_uring_disabled=0`, or set it to 1 and add this user to the group in \
     kernel.io_uring_group";
const REMEDY_SECCOMP: &str = "io_uring is blocked, most likely by the container's seccomp profile: \
     start it with `podman run --security-opt seccomp=PROFILE` (or docker) and a profile that \
     permits io_uring_setup, io_uring_enter and io_uring_register, or for a trial with \
     seccomp=unconfined";
const REMEDY_KERNEL: &str = "a newer kernel is needed: Linux 6.1 at least";

/// Operations without which nothing works.
const OPERATIONS: [(&str, u8, &str); 9] = [
    ("accept", opcode::Accept::CODE, "new connections"),
    ("recv", opcode::Recv::CODE, "receiving"),
    ("send", opcode::Send::CODE, "sending from one place"),
    ("sendmsg", opcode::SendMsg::CODE, "sending from several places at once"),
    ("async_cancel", opcode::AsyncCancel2::CODE, "stopping streams, closing connections"),
    ("close", opcode::Close::CODE, "closing connections"),
    ("shutdown", opcode::Shutdown::CODE, "closing without losing the last words"),
    ("poll_add", opcode::PollAdd::CODE, "doorbells of workers and of the control thread"),
    ("files_update", opcode::FilesUpdate::CODE, "connections made by this side"),
];

/// One thing the machine has or lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Short name.
    pub name: String,
    /// Whether it is there.
    pub present: bool,
    /// Whether a node cannot start without it.
    pub required: bool,
    /// What it is for.
    pub purpose: String,
    /// What to do where it is not there; empty where it is.
    pub remedy: String,
}

/// Everything a driver asks of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// In the order in which one thing builds on another.
    pub features: Vec<Feature>,
}

impl Probe {
    /// Tries everything out. Leaves nothing behind; takes a few milliseconds.
    #[must_use]
    pub fn run(config: &crate::Config) -> Self {
        let mut probe = Self::default();
        probe.descriptors(config);
        match trial::Trial::new() {
            Err(error) => {
                let remedy = remedy_of_setup(&error);
                probe.add("io_uring", false, "all network I/O of a shard", &remedy);
            }
            Ok(mut trial) => {
                probe.add("io_uring", true, "all network I/O of a shard", "");
                probe.operations(&trial);
                probe.habits(&mut trial);
            }
        }
        probe
    }

    /// True where nothing required is missing.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.missing().all(|feature| !feature.required)
    }

    /// What is not there.
    pub fn missing(&self) -> impl Iterator<Item = &Feature> {
        self.features.iter().filter(|feature| !feature.present)
    }

    fn add(&mut self, name: &str, present: bool, purpose: &str, remedy: &str) {
        self.features.push(Feature {
            name: name.to_owned(),
            present,
            required: true,
            purpose: purpose.to_owned(),
            remedy: if present { String::new() } else { remedy.to_owned() },
        });
    }

    fn descriptors(&mut self, config: &crate::Config) {
        let wanted = config.accepted.saturating_add(config.adopted);
        let limit = descriptor_limit();
        self.features.push(Feature {
            name: "RLIMIT_NOFILE".to_owned(),
            present: limit >= wanted,
            // A smaller table is no reason not to start: it only holds fewer connections.
            required: false,
            purpose: format!("a table of {wanted} connections per shard (the limit is {limit})"),
            remedy: if limit >= wanted { String::new() } else { remedy_of_table(wanted, limit) },
        });
    }

    fn operations(&mut self, trial: &trial::Trial) {
        let supported = trial.operations();
        for (name, code, purpose) in OPERATIONS {
            let present = supported.as_ref().is_some_and(|known| known.is_supported(code));
            self.add(name, present, purpose, REMEDY_KERNEL);
        }
    }

    fn habits(&mut self, trial: &mut trial::Trial) {
        let table = trial.table();
        self.add(
            "direct descriptors",
            table.is_ok(),
            "connections without file descriptors",
            REMEDY_KERNEL,
        );
        let buffers = trial.buffers();
        self.add(
            "provided buffer ring",
            buffers.is_ok(),
            "receiving without a buffer per connection",
            REMEDY_KERNEL,
        );
        let receives = table.is_ok() && buffers.is_ok() && trial.multishot_receive();
        self.add("multishot receive", receives, "many deliveries for one order", REMEDY_KERNEL);
        let accepts = table.is_ok() && trial.multishot_accept();
        self.add(
            "multishot accept, direct",
            accepts,
            "many connections for one order",
            REMEDY_KERNEL,
        );
        let stable = trial.submit_stable();
        self.add("submit stable", stable, "reusing message headers at once", REMEDY_KERNEL);
        let skip = trial.skip_success();
        self.add("silent success", skip, "cancellations that need no answer", REMEDY_KERNEL);
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for feature in &self.features {
            let mark = match (feature.present, feature.required) {
                (true, _) => "yes",
                (false, true) => "NO",
                (false, false) => "no",
            };
            writeln!(f, "{mark:<4}{:<26}{}", feature.name, feature.purpose)?;
            if !feature.present {
                writeln!(f, "    {}", feature.remedy)?;
            }
        }
        Ok(())
    }
}

/// Most open files of this process, which is also the longest table of direct descriptors.
pub(crate) fn descriptor_limit() -> u32 {
    getrlimit(Resource::Nofile)
        .current
        .map_or(u32::MAX, |limit| limit.try_into().unwrap_or(u32::MAX))
}

/// Raises this process's limit of open files to what it may raise it to by itself, and returns the
/// limit then in force.
///
/// # Errors
/// The OS's.
pub fn raise_descriptor_limit() -> io::Result<u32> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(descriptor_limit())
}

pub(crate) fn remedy_of_table(wanted: u32, limit: u32) -> String {
    format!(
        "a table of {wanted} connections needs a limit of {wanted} open files, and it is {limit}: \
         raise it with `ulimit -n {wanted}`, LimitNOFILE={wanted} in a systemd unit, or \
         `--ulimit nofile={wanted}` for a container, or configure fewer connections"
    )
}

/// What to do when `io_uring_setup` fails.
pub(crate) fn remedy_of_setup(error: &io::Error) -> String {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.is_ok_and(|text| text.trim() != "0");
    match error.raw_os_error() {
        Some(libc::EPERM) if disabled => REMEDY_SYSCTL.to_owned(),
        Some(libc::EPERM | libc::EACCES) => REMEDY_SECCOMP.to_owned(),
        // Profiles may answer either way; a kernel without io_uring at all is far rarer than a
        // profile.
        Some(libc::ENOSYS) => {
            format!(
                "{REMEDY_SECCOMP}; if this is no container, the kernel was built without io_uring"
            )
        }
        Some(libc::EINVAL) => REMEDY_KERNEL.to_owned(),
        Some(libc::ENOMEM) => format!(
            "{REMEDY_MEMORY}; where io_uring counts as locked memory, raise `ulimit -l` as well"
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            "no file descriptor is left for the ring: raise `ulimit -n`".to_owned()
        }
        _ => String::new(),
    }
}

mod ktls;
mod trial;

pub use ktls::kernel_tls;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_setup_has_a_remedy() {
        let errors = [libc::EPERM, libc::ENOSYS, libc::EINVAL, libc::ENOMEM, libc::EMFILE];
        for error in errors {
            let remedy = remedy_of_setup(&io::Error::from_raw_os_error(error));
            assert!(!remedy.is_empty(), "error {error}");
        }
        let blocked = remedy_of_setup(&io::Error::from_raw_os_error(libc::ENOSYS));
        assert!(blocked.contains("--security-opt seccomp="), "{blocked}");
    }

    #[test]
    fn a_table_over_the_limit_says_which_limit_is_needed() {
        let config = crate::Config { accepted: u32::MAX - 1, adopted: 1, ..Default::default() };
        let probe = Probe::run(&config);
        let table = probe.features.iter().find(|feature| feature.name == "RLIMIT_NOFILE").unwrap();
        if table.present {
            return; // No limit on this machine.
        }
        assert!(table.remedy.contains(&format!("ulimit -n {}", u32::MAX)), "{}", table.remedy);
        assert!(!table.required, "a smaller table still serves");
    }

    #[test]
    fn what_is_present_needs_no_remedy_and_what_is_missing_has_one() {
        let probe = Probe::run(&crate::Config::default());
        for feature in &probe.features {
            assert_eq!(feature.present, feature.remedy.is_empty(), "{feature:?}");
        }
        assert_eq!(probe.is_ok(), probe.missing().all(|feature| !feature.required));
    }
}
