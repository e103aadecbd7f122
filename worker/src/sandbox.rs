//! The box that a worker computes in: what it has no more need for, it gives up before its first
//! request, so that whoever gets it into their hands by a request has little of it.
//!
//! ```text
//!   offer, segment, weights, basis, device: open -> close() -> Ready -> requests
//! ```
//!
//! Each part is put on by itself. Where the kernel lacks one, the others still hold, and what is
//! missing is said to the node, which publishes it.

mod calls;
mod files;
pub mod trial;

use core::fmt;
use rustix::{
    io::Errno,
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs,
    },
};

/// What is asked of the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As much of it as the kernel offers; the rest is said.
    Auto,
    /// None of it. The default of the library: the box binds the whole process, which in a test is
    /// not the worker's alone. The program's default is `Auto`.
    #[default]
    Off,
    /// All of it, or no service.
    Require,
}

/// One part of the box. The number is its bit in the worker's answer to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Part {
    /// Requests are mapped read-only, and can never be mapped otherwise.
    Requests,
    /// No program that is started gains rights by its file.
    Privileges,
    /// No capabilities, also where the node runs as root.
    Capabilities,
    /// No core dump, which would hold requests, and nobody else of this user looks in.
    Memory,
    /// No descriptor beyond those that are open.
    Descriptors,
    /// No file, no TCP port, no process outside can be reached (Landlock).
    Files,
    /// Only the system calls that computing takes; any other ends the process (seccomp).
    Calls,
    /// No memory becomes executable any more (a rule of the same filter).
    Code,
}

impl Part {
    /// All, by their bits.
    pub const ALL: [Self; 8] = [
        Self::Requests,
        Self::Privileges,
        Self::Capabilities,
        Self::Memory,
        Self::Descriptors,
        Self::Files,
        Self::Calls,
        Self::Code,
    ];

    /// As it is named in metrics and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Privileges => "privileges",
            Self::Capabilities => "capabilities",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Files => "files",
            Self::Calls => "calls",
            Self::Code => "code",
        }
    }

    /// Its bit in the worker's answer.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What a worker computes on: a driver needs more than vector units do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One thread that computes.
    Cpu,
    /// A device, with the driver's threads, files and system calls.
    Cuda,
}

impl Kind {
    /// What is put on, in this order. A driver opens descriptors and makes code when it likes.
    const fn parts(self) -> &'static [Part] {
        use Part::{Calls, Capabilities, Code, Descriptors, Files, Memory, Privileges};
        match self {
            Self::Cpu => &[Privileges, Capabilities, Memory, Files, Descriptors, Calls, Code],
            Self::Cuda => &[Privileges, Capabilities, Memory, Files, Calls],
        }
    }
}

/// What holds, and what does not with its reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bits of [`Part`].
    pub parts: u32,
    lacks: Vec<String>,
}

impl Held {
    fn note<E: fmt::Display>(&mut self, part: Part, done: Result<(), E>) {
        match done {
            Ok(()) => self.parts |= part.bit(),
            Err(error) => self.lacks.push(format!("{} ({error})", part.name())),
        }
    }

    /// True where this part holds.
    #[must_use]
    pub const fn has(&self, part: Part) -> bool {
        self.parts & part.bit() != 0
    }

    /// True where nothing is missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.lacks.is_empty()
    }

    /// The names of the parts that hold.
    #[must_use]
    pub fn names(&self) -> String {
        let held = Part::ALL.iter().filter(|part| self.has(**part));
        held.map(|part| part.name()).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.parts, self.lacks.join(", ")) {
            (0, lacks) if lacks.is_empty() => f.write_str("no sandbox"),
            (_, lacks) if lacks.is_empty() => f.write_str("sandboxed"),
            (_, lacks) => write!(f, "sandboxed without {lacks}"),
        }
    }
}

/// Closes the box around this process. `guarded` says that requests are read-only already.
///
/// # Errors
/// Where all of it is required and something is missing: the sentence that says what.
pub fn close(mode: Mode, kind: Kind, guarded: bool) -> Result<Held, String> {
    let mut held = Held::default();
    if mode == Mode::Off {
        return Ok(held);
    }
    if kind == Kind::Cpu {
        let shared = "the node has devices, which address them in place";
        held.note(Part::Requests, if guarded { Ok(()) } else { Err(shared) });
    }
    kind.parts().iter().for_each(|part| put_on(*part, kind, &mut held));
    match mode {
        Mode::Require if !held.is_whole() => Err(format!("--worker-sandbox require: {held}")),
        _ => Ok(held),
    }
}

/// Puts on one part. The filter of calls comes last: behind it none of the others could be put on.
fn put_on(part: Part, kind: Kind, held: &mut Held) {
    match part {
        Part::Requests => {}
        Part::Privileges => held.note(part, set_no_new_privs(true)),
        Part::Capabilities => held.note(part, drop_capabilities()),
        Part::Memory => held.note(part, hide_memory()),
        Part::Descriptors => held.note(part, freeze_descriptors()),
        Part::Files => held.note(part, files::restrict(kind)),
        Part::Calls => held.note(part, calls::restrict(kind)),
        // A rule of the same filter, so that it holds where that one does.
        Part::Code if held.has(Part::Calls) => held.note(part, Ok::<(), Errno>(())),
        Part::Code => held.note(part, Err("needs the filter of calls")),
    }
}

/// Gives up every capability, and the way back to them.
fn drop_capabilities() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    // Both are refused to who has no capabilities to begin with, and then they change nothing.
    let _ = clear_ambient_capability_set();
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => drop(remove_capability_from_bounding_set(capability)),
            Ok(false) => {}
            // One behind the last that this kernel knows.
            Err(_) => break,
        }
    }
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    let left = capabilities(None)?;
    if left.effective.is_empty() && left.permitted.is_empty() { Ok(()) } else { Err(Errno::PERM) }
}

/// No dump by size, and none by a collector, which does not ask for the size.
fn hide_memory() -> Result<(), Errno> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Standard input, output and error are open, so no number under the limit is free. Not lower:
/// waiting for two descriptors takes a limit of two.
fn freeze_descriptors() -> Result<(), Errno> {
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: Some(3) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_own_bits_and_names() {
        for (at, part) in Part::ALL.iter().enumerate() {
            assert_eq!(part.bit(), 1 << at);
            assert!(Part::ALL[..at].iter().all(|other| other.name() != part.name()));
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut held = Held::default();
        assert_eq!(held.to_string(), "no sandbox");
        held.note(Part::Memory, Ok::<(), Errno>(()));
        held.note(Part::Code, Ok::<(), Errno>(()));
        assert_eq!((held.to_string(), held.names()), ("sandboxed".into(), "memory, code".into()));
        assert!(held.is_whole());
        held.note(Part::Files, Err("not in this kernel"));
        assert_eq!(held.to_string(), "sandboxed without files (not in this kernel)");
        assert!(!held.is_whole());
    }

    #[test]
    fn off_is_off() {
        assert_eq!(close(Mode::Off, Kind::Cpu, true), Ok(Held::default()));
    }
}
