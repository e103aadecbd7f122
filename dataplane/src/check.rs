//! `butterfly check`: what this host offers, what will be used, what to do about the rest.

mod fix;

use crate::{
    cli::CheckArgs, failure::Failure, host, memory, plan::Plan, say, settings::Settings, table,
    threads, units::Bytes,
};
use dataplane_uring::probe::{self, Probe};
use rustix::process::Resource;
use serde::Serialize;
use std::{env, process::Command};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grade {
    /// As it should be.
    Good,
    /// Works, but something is slower or smaller than it could be.
    Limited,
    /// `serve` cannot work.
    Missing,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) what: String,
    /// What there is.
    pub(crate) found: String,
    /// What the node does with it.
    pub(crate) used_for: String,
    /// What a person can do; empty where nothing need be done.
    pub(crate) remedy: String,
    /// How much it matters.
    pub(crate) grade: Grade,
    /// One of the many features of io_uring.
    #[serde(skip)]
    of_kernel: bool,
}

impl Finding {
    fn new(what: &str, found: impl Into<String>, used_for: &str) -> Self {
        Self {
            what: what.to_owned(),
            found: found.into(),
            used_for: used_for.to_owned(),
            remedy: String::new(),
            grade: Grade::Good,
            of_kernel: false,
        }
    }

    fn but(mut self, grade: Grade, remedy: impl Into<String>) -> Self {
        self.grade = grade;
        self.remedy = remedy.into();
        self
    }
}

fn cores() -> Finding {
    let cpus = host::cpus().len();
    let quota = host::quota();
    let found = quota.map_or_else(
        || format!("{cpus} usable"),
        |quota| format!("{cpus} usable, quota {quota:.1}"),
    );
    let finding = Finding::new("cores", found, "shards, each pinned to one, and workers");
    match quota {
        Some(quota) if quota < cpus as f64 => finding.but(
            Grade::Limited,
            "the control group gives less time than cores: raise its cpu.max, or fit --shards and \
             --workers to the quota and take --poll frugal",
        ),
        _ if cpus < 2 => {
            finding.but(Grade::Limited, "shard and worker share a core; give it two or more")
        }
        _ => finding,
    }
}

fn descriptors() -> Finding {
    let (soft, hard) = host::limit(Resource::Nofile);
    let show = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let finding = Finding::new(
        "open files",
        format!("{} (hard {})", show(soft), show(hard)),
        "rings, listeners, doorbells, workers",
    );
    match soft {
        Some(soft) if soft < 64 => {
            finding.but(Grade::Missing, "raise it: ulimit -n 1024, or LimitNOFILE= in the unit")
        }
        _ => finding,
    }
}

fn locked_memory() -> Finding {
    let (soft, _) = host::limit(Resource::Memlock);
    let found = soft.map_or_else(|| "unlimited".to_owned(), |bytes| Bytes(bytes).to_string());
    let finding = Finding::new("locked memory", found, "registered buffers, pinning for a GPU");
    match soft {
        Some(bytes) if bytes < 8 << 20 => finding.but(
            Grade::Limited,
            "raise it for throughput: ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ),
        _ => finding,
    }
}

fn memory_sum(plan: &Plan) -> Finding {
    let available = host::memory_left().unwrap_or(0);
    let needed: u64 = memory::sum(plan).iter().flatten().map(|(_, bytes)| bytes).sum();
    let finding = Finding::new(
        "memory",
        format!("{} available", Bytes(available)),
        "slots and buffers, all taken at start",
    );
    if available != 0 && needed > available {
        return finding.but(
            Grade::Missing,
            format!(
                "the default node takes {}: lower --bulk-slots, --small-slots or --max-payload",
                Bytes(needed)
            ),
        );
    }
    finding
}

fn huge_pages() -> Finding {
    const SHMEM: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    let choice = host::chosen(SHMEM);
    let finding = Finding::new(
        "huge pages",
        choice
            .clone()
            .map_or_else(|| "not in this kernel".to_owned(), |mode| format!("shmem {mode}")),
        "the segment of request slots: fewer page-table walks on long rows",
    );
    match choice.as_deref() {
        Some("advise" | "always" | "within_size" | "force") => finding,
        Some(_) => finding
            .but(Grade::Limited, format!("small pages are used; to change: echo advise > {SHMEM}")),
        None => finding.but(Grade::Limited, "small pages are used"),
    }
}

/// What the kernel offers to a shard's driver.
fn kernel(plan: &Plan) -> Vec<Finding> {
    let mut findings = vec![Finding::new("kernel", host::release(), "io_uring")];
    for feature in Probe::run(&threads::config(plan)).features {
        let found = if feature.present { "yes" } else { "no" };
        let mut finding = Finding::new(&feature.name, found, &feature.purpose);
        finding.of_kernel = true;
        findings.push(match (feature.present, feature.required) {
            (true, _) => finding,
            (false, true) => finding.but(Grade::Missing, feature.remedy),
            (false, false) => finding.but(Grade::Limited, feature.remedy),
        });
    }
    findings
}

fn instructions() -> Finding {
    let level = kernels::Level::detect();
    let finding = Finding::new("CPU features", level.name(), "top-k, int8 and lm-head on the CPU");
    match level {
        kernels::Level::Avx512 => finding,
        kernels::Level::Avx2 => finding.but(Grade::Limited, "a CPU with AVX-512 computes faster"),
        kernels::Level::Scalar => finding.but(
            Grade::Limited,
            "a CPU (or a virtual machine's CPU model) with AVX2 is many times faster",
        ),
    }
}

fn gpus() -> Finding {
    let devices = worker::cuda::devices();
    let found = match &devices {
        Ok(devices) if devices.is_empty() => "none".to_owned(),
        Ok(devices) => devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Err(closed) => closed.to_string(),
    };
    let auto = "--backend auto: one worker per GPU, each order where it is sooner";
    match &devices {
        Ok(all) if all.is_empty() => Finding::new("GPUs", found, "--backend auto: the CPU")
            .but(Grade::Limited, "the CPU computes; a GPU computes many long rows sooner"),
        Ok(all) => match all.iter().find(|device| !device.is_usable()) {
            None => Finding::new("GPUs", found, auto),
            Some(old) => Finding::new("GPUs", found, auto).but(
                Grade::Limited,
                format!("{old} is older than the kernels; its worker uses the CPU"),
            ),
        },
        Err(_) => Finding::new("GPUs", found, "--backend auto: the CPU")
            .but(Grade::Limited, "the CPU computes; with a GPU, install its driver"),
    }
}

/// Whether the kernel could seal records itself.
fn kernel_tls() -> Finding {
    let found = match probe::kernel_tls() {
        Ok(()) => "yes, not used".to_owned(),
        Err(error) => format!("no ({error}), not needed"),
    };
    let used_for = "nothing: shards seal records themselves, in place, and replace keys while a \
                    connection lives, which the kernel's TLS cannot";
    Finding::new("TLS in the kernel", found, used_for)
}

/// The sandbox, closed around a process of its own that then does nothing.
fn sandbox() -> Finding {
    let trial = env::current_exe()
        .and_then(|program| Command::new(program).args(["worker", "--try", "nothing"]).output());
    let (lives, said) = match &trial {
        Ok(output) => {
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(error) => (false, error.to_string()),
    };
    let found = said.lines().next().unwrap_or("the trial says nothing").to_owned();
    let finding = Finding::new("worker sandbox", &found, "workers: what a request could reach");
    if !lives {
        finding.but(Grade::Limited, "workers end in their sandbox here: take --worker-sandbox off")
    } else if found.contains("without") {
        finding.but(Grade::Limited, "Linux 6.12 or later with Landlock and seccomp has all parts")
    } else {
        finding
    }
}

/// What must be there for `serve`, as one sentence where it is not.
///
/// # Errors
/// The first thing that is missing, with its remedy.
pub(crate) fn required(plan: &Plan) -> Result<(), String> {
    match kernel(plan).into_iter().find(|finding| finding.grade == Grade::Missing) {
        None => Ok(()),
        Some(lack) => {
            Err(format!("this host lacks {} ({}): {}", lack.what, lack.used_for, lack.remedy))
        }
    }
}

/// Everything, in the order of the report.
fn findings(plan: &Plan) -> Vec<Finding> {
    let mut findings = vec![cores(), instructions(), gpus(), memory_sum(plan), huge_pages()];
    findings.extend([descriptors(), locked_memory(), sandbox(), kernel_tls()]);
    findings.extend(kernel(plan));
    findings
}

/// The table. What the kernel has of io_uring, as it should, is one line.
fn as_text(findings: &[Finding]) -> String {
    let (present, shown): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| finding.of_kernel && finding.grade == Grade::Good);
    let mut rows = vec![["", "what", "found", "used for", "remedy"].map(str::to_owned)];
    for finding in shown {
        let mark = match finding.grade {
            Grade::Good => "ok",
            Grade::Limited => "limited",
            Grade::Missing => "MISSING",
        };
        let Finding { what, found, used_for, remedy, .. } = finding.clone();
        rows.push([mark.to_owned(), what, found, used_for, remedy]);
    }
    if !present.is_empty() {
        let names: Vec<&str> = present.iter().map(|finding| finding.what.as_str()).collect();
        let found = names.join(", ");
        let used_for = "shards: all network I/O";
        rows.push(["ok", "io_uring", &found, used_for, ""].map(str::to_owned));
    }
    table::plain(&rows)
}

/// Runs the command; true where `serve` would work.
pub(crate) fn run(args: &CheckArgs) -> Result<bool, Failure> {
    let plan = Plan::for_host(&Settings::default()).map_err(Failure::setup)?;
    if args.fix {
        return Ok(show_fixes(args, &plan));
    }
    let findings = findings(&plan);
    let works = findings.iter().all(|finding| finding.grade != Grade::Missing);
    if args.json {
        let report = serde_json::json!({ "works": works, "findings": findings });
        say::out(format!("{report:#}"));
        return Ok(works);
    }
    say::out(as_text(&findings));
    say::out(if works { "serve works here" } else { "serve does not work here" });
    Ok(works)
}

/// What would be changed here, as text, JSON or a script. True where `serve` works without.
fn show_fixes(args: &CheckArgs, plan: &Plan) -> bool {
    let (files, locked) = (host::limit(Resource::Nofile).0, host::limit(Resource::Memlock).0);
    let fixes = fix::lacks(&fix::Host { read: fix::read, files, locked });
    let works = required(plan).is_ok();
    if args.json {
        say::out(format!("{:#}", serde_json::json!({ "works": works, "fixes": fixes })));
    } else if args.shell {
        say::out(fix::as_script(&fixes).trim_end());
    } else {
        say::out(fix::as_text(&fixes));
    }
    works
}
