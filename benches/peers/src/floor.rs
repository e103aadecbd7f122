//! The floor: a length and the bytes over plain tokio, echoed. Nothing is read, checked or routed.

use crate::{load::Caller, turns::Turns};
use bytes::Bytes;
use std::sync::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Longest message that either side takes.
pub(crate) const LONGEST: u32 = 16 << 20;
const BUFFER: usize = 64 << 10;

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?;
    println!("listening {}", listener.local_addr().map_err(|e| e.to_string())?);
    loop {
        let (stream, _) = listener.accept().await.map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("floor: {error}");
            }
        });
    }
}

async fn echo(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (from, to) = stream.into_split();
    let (mut from, mut to) =
        (BufReader::with_capacity(BUFFER, from), BufWriter::with_capacity(BUFFER, to));
    let mut body = Vec::new();
    while let Ok(len) = from.read_u32_le().await {
        body.resize(len.min(LONGEST) as usize, 0);
        from.read_exact(&mut body).await?;
        to.write_u32_le(len).await?;
        to.write_all(&body).await?;
        // What is already here goes out together.
        if from.buffer().is_empty() {
            to.flush().await?;
        }
    }
    Ok(())
}

/// A connection, shared by as many calls as there are.
#[derive(Debug)]
pub(crate) struct Line {
    body: Bytes,
    send: Mutex<mpsc::UnboundedSender<Bytes>>,
    turns: Turns,
}

impl Line {
    /// Connects.
    pub(crate) async fn connect(place: &str, body: Bytes) -> Result<Self, String> {
        let stream = TcpStream::connect(place).await.map_err(|e| format!("{place}: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (from, to) = stream.into_split();
        let (send, mut sent) = mpsc::unbounded_channel::<Bytes>();
        tokio::spawn(async move {
            let mut to = BufWriter::with_capacity(BUFFER, to);
            while let Some(body) = sent.recv().await {
                to.write_u32_le(body.len() as u32).await?;
                to.write_all(&body).await?;
                if sent.is_empty() {
                    to.flush().await?;
                }
            }
            Ok::<_, std::io::Error>(())
        });
        let turns = Turns::default();
        let answered = turns.clone();
        tokio::spawn(async move {
            let mut from = BufReader::with_capacity(BUFFER, from);
            while let Ok(len) = from.read_u32_le().await {
                let mut body = vec![0; len.min(LONGEST) as usize];
                if from.read_exact(&mut body).await.is_err() {
                    break;
                }
                answered.answer(body.into());
            }
            answered.close();
        });
        Ok(Self { body, send: Mutex::new(send), turns })
    }
}

impl Caller for Line {
    async fn call(&self) -> Result<(), String> {
        let turn = {
            // One lock for both, so that turns are in the order of the bytes.
            let send = self.send.lock().map_err(|_| "a sender panicked")?;
            send.send(self.body.clone()).map_err(|_| "the writer has ended")?;
            self.turns.take()
        };
        let answer = turn.await.map_err(|_| "the connection ended")?;
        same(&answer, &self.body)
    }
}

/// An echo must be what was sent.
pub(crate) fn same(answer: &[u8], sent: &[u8]) -> Result<(), String> {
    if answer == sent {
        return Ok(());
    }
    Err(format!("{} bytes came back that are not the {} that were sent", answer.len(), sent.len()))
}
