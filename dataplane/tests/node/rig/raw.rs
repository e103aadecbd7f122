//! A connection without manners: bytes out as given, frames in as they come.

use super::PATIENCE;
use client::{Addr, Buffer};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};
use wire::{
    ErrorCode, HEADER_LEN, Header, Kind,
    payload::{self, ErrorReport, QueryRequest, TensorWork},
    request::RequestFrame,
};

/// Either kind of socket.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Raw {
    socket: Socket,
}

/// A frame: header and 64-byte-aligned payload.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) payload: Buffer,
}

impl Raw {
    pub(crate) fn connect(addr: &Addr) -> Self {
        let socket = match addr {
            Addr::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).expect("connects");
                stream.set_nodelay(true).expect("no delay");
                stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
                Socket::Tcp(stream)
            }
            Addr::Unix(path) => {
                let stream = UnixStream::connect(path).expect("connects");
                stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
                Socket::Unix(stream)
            }
            other => panic!("{other}: frames are made by hand on plain sockets"),
        };
        Self { socket }
    }

    /// Over a socket that is connected already.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self { socket: Socket::Unix(stream) }
    }

    /// Sends all bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        assert!(self.try_send(bytes), "the node takes no more");
    }

    /// Sends all bytes, or tells that the node has closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        }
        .is_ok()
    }

    /// Sends until the node takes no more for a while; how many bytes it took.
    pub(crate) fn send_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let Socket::Tcp(stream) = &mut self.socket else { panic!("TCP only") };
        stream.set_write_timeout(Some(patience)).expect("timeout");
        let mut sent = 0;
        loop {
            match stream.write(&bytes[sent % bytes.len()..]) {
                Ok(0) | Err(_) => return sent,
                Ok(n) => sent += n,
            }
        }
    }

    /// Half-closes: nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("half-closes");
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Unix(stream) => stream.read(into),
        }
    }

    /// Fills `into`, or tells that the stream ended before.
    fn fill(&mut self, into: &mut [u8]) -> bool {
        let mut have = 0;
        while have < into.len() {
            match self.read(&mut into[have..]) {
                Ok(0) => return false,
                Ok(n) => have += n,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("reading: {error}"),
            }
        }
        true
    }

    /// The next frame, its CRC-16 checked; `None` at the end of the stream.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; HEADER_LEN];
        if !self.fill(&mut head) {
            return None;
        }
        let header = *Header::peek(&head).expect("32 bytes");
        header.check(u32::MAX).expect("a header");
        let mut payload = Buffer::new();
        payload.resize(header.payload_len() as usize);
        assert!(self.fill(payload.as_mut_slice()), "a frame broke off");
        assert_eq!(wire::check::crc16(payload.as_slice()), header.checksum());
        Some(Frame { header, payload })
    }

    /// The next frame, which must be a refusal for this reason; gives its message id.
    pub(crate) fn refusal(&mut self, code: ErrorCode) -> u64 {
        let frame = self.frame().expect("a refusal, not the end of the stream");
        assert_eq!(frame.header.kind(), Ok(Kind::ErrorReport));
        let report = payload::open::<ErrorReport>(frame.payload.as_slice()).expect("a report");
        let found = ErrorCode::from_code(report.code.to_native());
        assert_eq!(found, Some(code), "{}", &*report.message);
        assert!(!report.message.is_empty(), "a refusal says what to do");
        frame.header.message_id()
    }

    /// The next thing must be the end of the stream.
    pub(crate) fn closed(&mut self) {
        if let Some(frame) = self.frame() {
            panic!("still open: {:?}", frame.header);
        }
    }

    /// A ping must come back: the connection lives and is in step.
    pub(crate) fn lives(&mut self) {
        let id = 0xFEED_0000_0000_0001;
        self.send(zerocopy::IntoBytes::as_bytes(&wire::frame::ping(id, 0)));
        let frame = self.frame().expect("the connection lives");
        assert_eq!(frame.header.kind(), Ok(Kind::Heartbeat));
        assert_eq!((frame.header.message_id(), frame.header.payload_len()), (id, 0));
    }
}

/// A whole request frame.
pub(crate) fn request(id: u64, work: TensorWork, rows: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut request = QueryRequest { work, ..QueryRequest::default() };
    RequestFrame::begin_with(&mut frame, rows).finish(&mut request, id, 0).expect("fits");
    frame
}
