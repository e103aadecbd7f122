//! ZeroMQ: DEALER to ROUTER by the real libzmq. The server is the loop of its guide; a client is a
//! task that owns the socket and waits for its descriptor.

use crate::{floor::same, load::Caller};
use bytes::Bytes;
use std::{
    collections::HashMap,
    os::fd::{AsRawFd, RawFd},
};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
};
use zmq::{Context, DEALER, DONTWAIT, Error, Message, ROUTER, SNDMORE, Socket};

/// The version of the library that is linked.
pub(crate) fn version() -> String {
    let (major, minor, patch) = zmq::version();
    format!("{major}.{minor}.{patch}")
}

/// Serves until it is killed.
pub(crate) fn serve() -> Result<(), String> {
    let run = || -> Result<(), Error> {
        let socket = Context::new().socket(ROUTER)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let place = socket.get_last_endpoint()?.unwrap_or_default();
        println!("listening {place}");
        loop {
            // Who asked comes as the first part, and is where the answer goes.
            let part = socket.recv_msg(0)?;
            let flags = if part.get_more() { SNDMORE } else { 0 };
            socket.send(part, flags)?;
        }
    };
    run().map_err(|error| error.to_string())
}

/// A message and who waits for its echo.
type Ask = (Bytes, oneshot::Sender<Message>);

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    body: Bytes,
    send: mpsc::UnboundedSender<Ask>,
}

/// The descriptor that libzmq makes readable when something has changed; it stays libzmq's.
struct Signal(RawFd);

impl AsRawFd for Signal {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Line {
    /// Connects.
    pub(crate) fn connect(context: &Context, place: &str, body: Bytes) -> Result<Self, String> {
        let socket = context.socket(DEALER).map_err(|error| error.to_string())?;
        socket.set_linger(0).map_err(|error| error.to_string())?;
        socket.connect(place).map_err(|error| format!("{place}: {error}"))?;
        let signal = Signal(socket.get_fd().map_err(|error| error.to_string())?);
        #[expect(
            deprecated,
            reason = "the crate lends the descriptor as a number only; the task that \
                                       owns the socket drops this first"
        )]
        let signal = AsyncFd::with_interest(signal, tokio::io::Interest::READABLE);
        let signal = signal.map_err(|error| error.to_string())?;
        let (send, sent) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            if let Err(error) = carry(socket, signal, sent).await {
                eprintln!("zmq: {error}");
            }
        });
        Ok(Self { body, send })
    }
}

/// Moves messages until nobody asks any more. The descriptor says only that something *may* have
/// changed, once: after anything that was done, the socket is read until it has nothing.
async fn carry(
    socket: Socket,
    signal: AsyncFd<Signal>,
    mut sent: mpsc::UnboundedReceiver<Ask>,
) -> Result<(), String> {
    let mut waiting = HashMap::new();
    let mut next = 0_u64;
    loop {
        while let Some((number, body)) = received(&socket)? {
            let teller: Option<oneshot::Sender<Message>> = waiting.remove(&number);
            let _ = teller.ok_or("an answer to nothing")?.send(body);
        }
        tokio::select! {
            ask = sent.recv() => {
                let Some((body, teller)) = ask else { return Ok(()) };
                let number = next.to_le_bytes();
                let parts = [&number[..], &body[..]];
                socket.send_multipart(parts, DONTWAIT).map_err(|error| error.to_string())?;
                waiting.insert(next, teller);
                next += 1;
            }
            ready = signal.readable() => ready.map_err(|error| error.to_string())?.clear_ready(),
        }
    }
}

/// The number of a message and its echo, if one is here: all parts of it are, then.
fn received(socket: &Socket) -> Result<Option<(u64, Message)>, String> {
    let number = match socket.recv_msg(DONTWAIT) {
        Ok(part) => part,
        Err(Error::EAGAIN) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let number = (*number).try_into().map(u64::from_le_bytes);
    let number = number.map_err(|_| "an answer without its number")?;
    let body = socket.recv_msg(DONTWAIT).map_err(|error| error.to_string())?;
    if body.get_more() { Err("an answer of other parts".into()) } else { Ok(Some((number, body))) }
}

impl Caller for Line {
    async fn call(&self) -> Result<(), String> {
        let (tell, told) = oneshot::channel();
        self.send.send((self.body.clone(), tell)).map_err(|_| "the connection has ended")?;
        same(&told.await.map_err(|_| "the connection ended")?, &self.body)
    }
}
