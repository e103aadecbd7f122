//! Which system calls are left to a worker (seccomp).
//!
//! The list of a CPU worker is what its loop was seen to use (`strace -f`), and what its allocator,
//! its clocks and its abort may use besides. Where a call could reach further, its arguments
//! are looked at: memory is mapped without a file behind it and never executable, and signals go to
//! itself only.
//!
//! A driver's list cannot be known. A CUDA worker is left all calls but those that no driver makes
//! after it is open, and that an attacker would.

use super::Kind;
use core::fmt;
use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Whatever their arguments are.
const COMPUTING: &[i64] = &[
    // Doorbells, the control socket, last words.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    // Time, and giving way.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_futex,
    // Memory that exists.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    // The end: panic, abort, exit.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// What no driver does once it is open.
const ATTACKING: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_open_by_handle_at,
];

/// Why there is no filter.
#[derive(Debug)]
pub(super) struct NoFilter(seccompiler::Error);

impl fmt::Display for NoFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Into<seccompiler::Error>> From<E> for NoFilter {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Puts the filter on: from here on a call outside of the list ends this process. Not an error
/// code: what asks for more than it needs is not ours any more, and the node replaces it.
pub(super) fn restrict(kind: Kind) -> Result<(), NoFilter> {
    let filter = filter(kind)?;
    match kind {
        Kind::Cpu => apply_filter(&filter)?,
        Kind::Cuda => apply_filter_all_threads(&filter)?,
    }
    Ok(())
}

fn filter(kind: Kind) -> Result<BpfProgram, NoFilter> {
    let (kill, allow) = (SeccompAction::KillProcess, SeccompAction::Allow);
    let (rules, otherwise, matched) = match kind {
        Kind::Cpu => (computing()?, kill, allow),
        Kind::Cuda => (whatever_arguments(ATTACKING), allow, kill),
    };
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(rules, otherwise, matched, machine)?.try_into()?)
}

fn whatever_arguments(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn computing() -> Result<Rules, NoFilter> {
    let mut rules = whatever_arguments(COMPUTING);
    let bits = |argument, mask: i32, value: i32| {
        let op = SeccompCmpOp::MaskedEq(u64::from(mask.cast_unsigned()));
        let value = u64::from(value.cast_unsigned());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
    };
    let equal = |argument, value: i32| bits(argument, -1, value);
    let plain = || bits(2, libc::PROT_EXEC, 0);
    let nobody_elses = bits(3, libc::MAP_ANONYMOUS, libc::MAP_ANONYMOUS)?;
    let myself = getpid().as_raw_nonzero().get();
    for (call, conditions) in [
        (libc::SYS_mmap, vec![plain()?, nobody_elses]),
        (libc::SYS_mprotect, vec![plain()?]),
        (libc::SYS_tgkill, vec![equal(0, myself)?]),
        // Naming memory, which allocators do; nothing else of the many things that prctl does.
        (libc::SYS_prctl, vec![equal(0, libc::PR_SET_VMA)?]),
        // A debug build looks whether what it closes is open. The flags of a doorbell are shared
        // with the node, which would hang in its write if they were changed.
        (libc::SYS_fcntl, vec![equal(1, libc::F_GETFD)?]),
    ] {
        rules.insert(call, vec![SeccompRule::new(conditions)?]);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile_and_fit() {
        // The kernel takes 4,096 instructions.
        for kind in [Kind::Cpu, Kind::Cuda] {
            let len = filter(kind).map(|program| program.len());
            assert!(len.as_ref().is_ok_and(|len| (50..4_096).contains(len)), "{len:?}");
        }
    }

    #[test]
    fn no_list_names_a_call_twice_and_none_is_in_both() {
        let all: Vec<i64> = COMPUTING.iter().chain(ATTACKING).copied().collect();
        for (at, call) in all.iter().enumerate() {
            assert!(!all[..at].contains(call), "{call}");
        }
    }
}
