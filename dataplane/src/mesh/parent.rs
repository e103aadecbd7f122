//! The way to the node above: a connection that is made again whenever it ends, on two threads of
//! its own, so that a slow parent never holds up the mesh.

use client::{
    Addr, Buffer, Client, ClientError, Options, Receiver as Frames, Security, Sender as Writer,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use link::door::Door;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use wire::Kind;

/// Frames that may wait in each direction.
const QUEUE: usize = 256;
/// Silence after which the parent counts as gone: it answers a heartbeat every five seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two attempts to connect: doubled from the first to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Largest payload taken from a parent.
const PAYLOAD_MAX: u32 = 4 << 20;

/// What the mesh hears of its parent.
#[derive(Debug)]
pub(crate) enum Above {
    /// Connected; `life` counts the connections.
    Up {
        /// This connection.
        life: u32,
        /// Takes whole frames.
        frames: Sender<Vec<u8>>,
    },
    /// A frame came.
    Frame {
        /// On this connection.
        life: u32,
        /// When, node time.
        arrived: u64,
        /// Its type.
        kind: Kind,
        /// Its id.
        message_id: u64,
        /// Its payload, CRC-16 checked.
        payload: Buffer,
    },
    /// The connection is over.
    Down {
        /// Which.
        life: u32,
    },
}

/// The mesh's end.
#[derive(Debug)]
pub(crate) struct Parent {
    /// What happens above.
    pub(crate) events: Receiver<Above>,
    stop: Arc<AtomicBool>,
}

impl Drop for Parent {
    /// The threads end with their next frame or timeout; nobody waits for them.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Keeps a connection to the parent from now on; rings `door` after every event.
///
/// # Errors
/// The OS's: no more threads.
pub(crate) fn keep(
    addr: Addr,
    security: Option<Security>,
    door: Arc<Door>,
    now: fn() -> u64,
) -> Result<Parent, String> {
    let (tell, events) = bounded(QUEUE);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    thread::Builder::new()
        .name("mesh-parent".to_owned())
        .spawn(move || Caller { addr, security, tell, door, stop: stopped, now, life: 0 }.run())
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(Parent { events, stop })
}

struct Caller {
    addr: Addr,
    security: Option<Security>,
    tell: Sender<Above>,
    door: Arc<Door>,
    stop: Arc<AtomicBool>,
    now: fn() -> u64,
    life: u32,
}

impl Caller {
    fn run(mut self) {
        let options = Options {
            connect_timeout: PAUSE.1,
            io_timeout: Some(SILENCE),
            payload_max: PAYLOAD_MAX,
            security: self.security.clone(),
        };
        let mut pause = PAUSE.0;
        let mut said = false;
        while !self.stop.load(Relaxed) {
            match Client::connect(&self.addr, options.clone()) {
                Ok(client) => {
                    (pause, said) = (PAUSE.0, false);
                    self.life += 1;
                    if self.serve(client).is_none() {
                        return;
                    }
                }
                Err(error) => {
                    if !said {
                        crate::say::note(format!(
                            "{error}; this node goes on alone and tries again"
                        ));
                    }
                    said = true;
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One connection, from its first frame to its last. `None` where the mesh listens no more.
    fn serve(&self, client: Client) -> Option<()> {
        let (writer, mut reader) = client.into_halves();
        let (frames, to_write) = bounded(QUEUE);
        thread::Builder::new()
            .name("mesh-parent-out".to_owned())
            .spawn(move || write(writer, &to_write))
            .ok()?;
        let life = self.life;
        self.tell(Above::Up { life, frames })?;
        crate::say::note(format!("joined the node above at {}", self.addr));
        let ended = loop {
            match self.next(&mut reader) {
                Ok(frame) => self.tell(frame)?,
                Err(error) => break error,
            }
        };
        crate::say::note(format!("the node above is away ({ended}); this node goes on alone"));
        self.tell(Above::Down { life })
    }

    fn next(&self, reader: &mut Frames) -> Result<Above, ClientError> {
        let reply = reader.receive()?;
        Ok(Above::Frame {
            life: self.life,
            arrived: (self.now)(),
            kind: reply.kind,
            message_id: reply.header.message_id(),
            payload: Buffer::copy_of(reply.payload),
        })
    }

    fn tell(&self, event: Above) -> Option<()> {
        let told = self.tell.send(event).ok();
        self.door.ring();
        told
    }
}

/// Writes until the mesh drops its end or the connection breaks; then ends the sending side, which
/// makes the parent end the other.
fn write(mut writer: Writer, frames: &Receiver<Vec<u8>>) {
    for frame in frames {
        if writer.send_bytes(&frame).is_err() {
            break;
        }
    }
    let _ = writer.finish();
}
