//! Handover: a new process takes the listening sockets from the one that runs, so that a restart or
//! an upgrade turns nobody away.
//!
//! Over a Unix socket at a path that both name, between processes of one user, each step bounded in
//! time:
//!
//! 1. The new process connects and sends [`HELLO`].
//! 2. The old one lets go of the state directory, and answers with its listening sockets
//!    (SCM_RIGHTS) and where each is bound, one line each. It accepts on.
//! 3. The new process starts its workers. Once it serves, it accepts from the same sockets and says
//!    [`READY`]. If it ends before that, the old one goes on as if nothing had been.
//! 4. The old process stops accepting, says [`GONE`], and asks every peer to leave: an ERROR_REPORT
//!    `draining` with message_id 0. It answers all that comes until the last peer has left, or the
//!    drain's time is over; what is then under way it finishes, new requests it refuses.
//! 5. A datagram goes to one of the processes that read a socket, whichever connection it belongs
//!    to, so that sockets of QUIC are read by one process at a time. The old one reads until its
//!    peers by QUIC have left or its time for that is over, and leaves whoever comes anew without
//!    an answer; then it closes the link. On that the new process reads. Peers repeat what was not
//!    answered after about a second, and so meet the new process.
//! 6. The new process puts its own socket in place of the old one's, for the next handover.

use crate::listen::{Bearing, Place};
use rustix::{
    cmsg_space,
    fd::{AsFd, OwnedFd},
    fs::{Mode, chmod, rename},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use std::{
    fs,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

/// What the new process says first, and again what this version is.
const HELLO: &[u8; 8] = b"BFHAND01";
/// The new process serves.
const READY: u8 = b'R';
/// The old process accepts no more.
const GONE: u8 = b'G';
/// Sockets that one message carries: the kernel's own bound.
const SOCKETS_MAX: usize = 253;
/// Bytes of the lines that say where they are bound.
const TEXT_MAX: usize = 64 << 10;
/// Longest wait for a single answer of the other process.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a new process to serve: its workers may open devices.
const START_MAX: Duration = Duration::from_secs(120);

/// Ends when the old process reads no datagrams any more.
pub(crate) type Quiet = oneshot::Receiver<()>;

/// What a control thread is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A new process asks: let go of what only one can hold, and give it the sockets.
    Asked(oneshot::Sender<Vec<Bearing>>),
    /// It did not come up, and why: hold all of it again.
    Kept(String),
    /// It serves. Answer once nothing is accepted any more.
    Taken(oneshot::Sender<Quiet>),
    /// To the new process: the old one reads no datagrams any more.
    Quiet,
}

/// What a new process got.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// Listening sockets.
    pub(crate) sockets: Vec<Bearing>,
    link: UnixStream,
}

/// The socket file on which the next process asks.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    /// Another process has put its own there.
    replaced: bool,
}

/// A process of the same user, or root.
fn is_trusted(peer: &UnixStream) -> bool {
    socket_peercred(peer).is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

/// Asks the process that runs for its sockets; `None` where none runs.
///
/// # Errors
/// Why the handover fails, with what to do.
pub(crate) fn ask(path: &Path) -> Result<Option<Inherited>, String> {
    let link = match UnixStream::connect(path) {
        Ok(link) => link,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(explain(path, &error)),
    };
    if !is_trusted(&link) {
        return Err(format!("--handover {}: a process of another user is there", path.display()));
    }
    let asked = || -> io::Result<Vec<Bearing>> {
        link.set_read_timeout(Some(ANSWER_MAX))?;
        link.set_write_timeout(Some(ANSWER_MAX))?;
        (&link).write_all(HELLO)?;
        receive(&link)
    };
    let sockets = asked().map_err(|error| explain(path, &error))?;
    Ok(Some(Inherited { sockets, link }))
}

/// The process that would hand over at this path, if one would.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    let peer = socket_peercred(&UnixStream::connect(path).ok()?).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn explain(path: &Path, error: &io::Error) -> String {
    format!(
        "--handover {}: the running process does not hand over: {error}; look at its last words, \
         or stop it and start again",
        path.display()
    )
}

impl Inherited {
    /// Tells the old process that this one serves; returns once that accepts no more, and tells
    /// when it reads no datagrams any more.
    ///
    /// # Errors
    /// The old process is gone, or does not answer.
    pub(crate) fn ready(mut self, tell: UnboundedSender<Event>) -> io::Result<()> {
        self.link.write_all(&[READY])?;
        let mut answer = [0];
        self.link.read_exact(&mut answer)?;
        if answer != [GONE] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let wait = move || {
            // The link's end, or an old process that hangs: either way it is this one's turn.
            let _ = self.link.read(&mut answer);
            let _ = tell.send(Event::Quiet);
        };
        thread::Builder::new().name("handover-quiet".to_owned()).spawn(wait).map(drop)
    }
}

/// Offers the sockets of this process at `path` from now on, in place of whoever was there.
///
/// # Errors
/// Why the path cannot be used.
pub(crate) fn offer(path: &Path, tell: UnboundedSender<Event>) -> Result<Door, String> {
    let bound = || -> io::Result<UnixListener> {
        // Made aside and moved: whoever asks meets the old process or the new one, never nobody.
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        let _ = fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside)?;
        chmod(&aside, Mode::RUSR | Mode::WUSR)?;
        rename(&aside, path)?;
        Ok(listener)
    };
    let listener = bound()
        .map_err(|error| format!("--handover {}: {error}; choose another path", path.display()))?;
    let run = move || while serve(&listener, &tell) {};
    thread::Builder::new()
        .name("handover".to_owned())
        .spawn(run)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(Door { path: path.to_owned(), replaced: false })
}

impl Door {
    /// The path belongs to another process.
    pub(crate) const fn replaced(&mut self) {
        self.replaced = true;
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if !self.replaced {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One process that asks, from its hello to its end. False when there is nothing more to offer.
fn serve(listener: &UnixListener, tell: &UnboundedSender<Event>) -> bool {
    let Ok((link, _)) = listener.accept() else { return true };
    if !is_trusted(&link) || greet(&link).is_err() {
        return true;
    }
    let (reply, sockets) = oneshot::channel();
    if tell.send(Event::Asked(reply)).is_err() {
        return false;
    }
    // The control thread is at its end where there is no answer.
    let Ok(sockets) = sockets.blocking_recv() else { return false };
    let kept = |why: String| tell.send(Event::Kept(why)).is_ok();
    if let Err(error) = send(&link, &sockets) {
        return kept(format!("its sockets could not be sent: {error}"));
    }
    drop(sockets);
    if let Err(error) = until_ready(&link) {
        return kept(format!("it did not become ready: {error}"));
    }
    let (reply, closed) = oneshot::channel();
    if tell.send(Event::Taken(reply)).is_ok()
        && let Ok(quiet) = closed.blocking_recv()
    {
        // The new process serves whether it hears this or not.
        let _ = (&link).write_all(&[GONE]);
        let _ = quiet.blocking_recv();
    }
    false
}

fn greet(link: &UnixStream) -> io::Result<()> {
    link.set_read_timeout(Some(ANSWER_MAX))?;
    link.set_write_timeout(Some(ANSWER_MAX))?;
    let mut hello = [0; HELLO.len()];
    (&*link).read_exact(&mut hello)?;
    if hello == *HELLO { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn until_ready(link: &UnixStream) -> io::Result<()> {
    link.set_read_timeout(Some(START_MAX))?;
    let mut said = [0];
    (&*link).read_exact(&mut said)?;
    if said == [READY] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Sends the sockets with the length of the lines, then the lines.
fn send(link: &UnixStream, sockets: &[Bearing]) -> io::Result<()> {
    if sockets.len() > SOCKETS_MAX {
        return Err(io::Error::other(format!("over {SOCKETS_MAX} listening sockets")));
    }
    let lines: String = sockets.iter().map(|(place, _)| format!("{place}\n")).collect();
    let len = u32::try_from(lines.len()).unwrap_or(u32::MAX).to_le_bytes();
    let fds: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(link, &[IoSlice::new(&len)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent < len.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    (&*link).write_all(lines.as_bytes())
}

fn receive(link: &UnixStream) -> io::Result<Vec<Bearing>> {
    let mut len = [0; 4];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let got = loop {
        match recvmsg(link, &mut [IoSliceMut::new(&mut len)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let len = u32::from_le_bytes(len) as usize;
    if got.bytes < 4 || len > TEXT_MAX {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut text = vec![0; len];
    (&*link).read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let places = text.lines().map(|line| {
        Place::parse(line).ok_or_else(|| io::Error::other(format!("`{line}` is no place")))
    });
    let places: Vec<Place> = places.collect::<Result<_, _>>()?;
    if places.len() != fds.len() {
        return Err(io::Error::other(format!("{} places, {} sockets", places.len(), fds.len())));
    }
    Ok(places.into_iter().zip(fds).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;
    use std::net::TcpListener;
    use tokio::sync::mpsc::unbounded_channel;

    fn bearing() -> Bearing {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        (Place::Tcp(listener.local_addr().expect("bound")), listener.into())
    }

    #[test]
    fn sockets_change_hands_with_their_places() {
        let folder = Folder::new("handover");
        let path = folder.0.as_path().join("door");
        assert!(ask(&path).expect("nobody is no error").is_none());
        let (tell, mut told) = unbounded_channel();
        let door = offer(&path, tell).expect("offers");
        let asks = thread::spawn({
            let path = path.clone();
            move || ask(&path).expect("answers").expect("somebody")
        });
        let Some(Event::Asked(reply)) = told.blocking_recv() else { panic!("asked first") };
        let given = bearing();
        let place = given.0.clone();
        reply.send(vec![given]).expect("waits");
        let inherited = asks.join().expect("no panic");
        assert_eq!(inherited.sockets.len(), 1);
        assert_eq!(inherited.sockets[0].0, place);
        let (_, socket) = inherited.sockets[0].1.try_clone().map(|fd| ((), fd)).expect("copies");
        let listener = TcpListener::from(socket);
        assert_eq!(Place::Tcp(listener.local_addr().expect("bound")), place, "the very same");
        let (tell, mut successor) = unbounded_channel();
        let ready = thread::spawn(move || inherited.ready(tell));
        let Some(Event::Taken(closed)) = told.blocking_recv() else { panic!("taken then") };
        let (reads, quiet) = oneshot::channel();
        closed.send(quiet).expect("waits");
        ready.join().expect("no panic").expect("told");
        assert!(successor.try_recv().is_err(), "the old one reads datagrams");
        drop(reads);
        assert!(matches!(successor.blocking_recv(), Some(Event::Quiet)));
        drop(door);
        assert!(!path.exists());
    }

    #[test]
    fn a_successor_that_dies_or_speaks_otherwise_changes_nothing() {
        let folder = Folder::new("handover-kept");
        let path = folder.0.as_path().join("door");
        let (tell, mut told) = unbounded_channel();
        let _door = offer(&path, tell).expect("offers");
        let mut stranger = UnixStream::connect(&path).expect("connects");
        stranger.write_all(b"GET / HT").expect("sends");
        assert_eq!(stranger.read(&mut [0; 8]).expect("turned away"), 0);
        let asks = thread::spawn({
            let path = path.clone();
            move || ask(&path).expect("answers").expect("somebody")
        });
        let Some(Event::Asked(reply)) = told.blocking_recv() else { panic!("asked first") };
        reply.send(vec![bearing()]).expect("waits");
        drop(asks.join().expect("no panic"));
        let Some(Event::Kept(why)) = told.blocking_recv() else { panic!("kept") };
        assert!(why.contains("ready"), "{why}");
        let (mode, next) = (fs::metadata(&path).expect("there"), UnixStream::connect(&path));
        assert!(next.is_ok(), "the next one may ask");
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600, "nobody else may");
    }
}
