//! The box tried from inside: what an attacker would do first, each attempt in a process of its
//! own, since most end it.

pub use super::Held;
use super::{Kind, Mode, Part, put_on};
use core::{fmt, ptr};
use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap_anonymous},
    process::{getppid, test_kill_process},
};
use std::{
    fs::{self, File},
    io::{Error, ErrorKind},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    process::Command,
    thread,
};

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// To do nothing, which must go well.
    Nothing,
    /// To read a file.
    Read,
    /// To write a file.
    Write,
    /// To make a socket.
    Socket,
    /// To connect to a port.
    Connect,
    /// To start another program.
    Execute,
    /// To look into another process.
    Trace,
    /// To reach the process that started this one by a signal.
    Signal,
    /// To start a thread.
    Thread,
    /// To have a descriptor more.
    Descriptor,
    /// To make memory executable.
    Code,
}

impl Attempt {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Read,
        Self::Write,
        Self::Socket,
        Self::Connect,
        Self::Execute,
        Self::Trace,
        Self::Signal,
        Self::Thread,
        Self::Descriptor,
        Self::Code,
    ];

    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Read => "read",
            Self::Write => "write",
            Self::Socket => "socket",
            Self::Connect => "connect",
            Self::Execute => "execute",
            Self::Trace => "trace",
            Self::Signal => "signal",
            Self::Thread => "thread",
            Self::Descriptor => "descriptor",
            Self::Code => "code",
        }
    }
}

/// How an attempt went, where the process lives to tell.
#[derive(Debug)]
pub enum Verdict {
    /// It could be done.
    Done,
    /// It was refused.
    Refused(Error),
    /// The box could not be closed as it was asked for.
    Open(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Refused(error) => write!(f, "refused: {error}"),
            Self::Open(why) => f.write_str(why),
        }
    }
}

/// Closes the box of a CPU worker around this process, all of it or `only` these parts, and tries.
/// Says first what holds. Calls outside of the list end the process by SIGSYS.
#[must_use]
pub fn run(mode: Mode, only: &[Part], attempt: Attempt, say: &dyn Fn(&Held)) -> Verdict {
    // Before the box: what shall be reached has to be there.
    let listener = match TcpListener::bind(("127.0.0.1", 0)) {
        Ok(listener) => listener,
        Err(error) => return Verdict::Open(format!("no port to try: {error}")),
    };
    let held = match only {
        [] => match super::close(mode, Kind::Cpu, true) {
            Ok(held) => held,
            Err(why) => return Verdict::Open(why),
        },
        only => {
            let mut held = Held::default();
            only.iter().for_each(|part| put_on(*part, Kind::Cpu, &mut held));
            held
        }
    };
    say(&held);
    match attempt.perform(&listener) {
        Ok(()) => Verdict::Done,
        Err(error) => Verdict::Refused(error),
    }
}

impl Attempt {
    fn perform(self, listener: &TcpListener) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Read => File::open("/proc/self/exe").map(drop),
            Self::Write => {
                let path = std::env::temp_dir().join(format!("butterfly-{}", std::process::id()));
                File::create_new(&path)?;
                fs::remove_file(&path)
            }
            Self::Socket => UnixDatagram::unbound().map(drop),
            Self::Connect => TcpStream::connect(listener.local_addr()?).map(drop),
            Self::Execute => Command::new("/proc/self/exe").arg("--version").output().map(drop),
            Self::Trace => trace(),
            Self::Signal => {
                let parent = getppid().ok_or(ErrorKind::NotFound)?;
                Ok(test_kill_process(parent)?)
            }
            Self::Thread => thread::Builder::new().spawn(|| {}).map(drop),
            Self::Descriptor => listener.try_clone().map(drop),
            Self::Code => make_code(),
        }
    }
}

/// Asks the parent to trace this process: the one use of the call that is open to everybody.
fn trace() -> Result<(), Error> {
    // SAFETY: PTRACE_TRACEME looks at no other argument and touches no memory.
    let refused = unsafe { libc::ptrace(libc::PTRACE_TRACEME) } != 0;
    if refused { Err(Error::last_os_error()) } else { Ok(()) }
}

fn make_code() -> Result<(), Error> {
    let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
    // SAFETY: a new mapping at an address of the OS's choice touches no existing memory.
    let made = unsafe { mmap_anonymous(ptr::null_mut(), 4_096, all, MapFlags::PRIVATE) };
    made.map(drop).map_err(|errno: Errno| errno.into())
}
