//! One HTTP/1.1 request with a body, over a connection of its own. What a collector says is
//! bounded in length and time.

use super::Endpoint;
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

/// Longest wait for a connection to one of its addresses, and for a part to be taken.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for all of an answer, however it trickles.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest line of an answer, and most lines of its head.
const LINE_MAX: u64 = 8 << 10;
const LINES_MAX: usize = 100;
/// Most bytes of its body that are read.
const BODY_MAX: u64 = 64 << 10;

/// What a collector answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// When to come again.
    pub(super) retry_after: Option<Duration>,
    /// Its body, as far as it stated a length.
    pub(super) body: Vec<u8>,
}

/// Posts JSON.
///
/// # Errors
/// Why there is no answer.
pub(super) fn post(endpoint: &Endpoint, json: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(endpoint)?;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         User-Agent: butterfly/{}\r\nConnection: close\r\n\r\n",
        endpoint.path,
        endpoint.authority(),
        json.len(),
        env!("CARGO_PKG_VERSION"),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(json)?;
    answer(&mut BufReader::new(Until { stream, end: Instant::now() + ANSWER_MAX }))
}

fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "that name has no address");
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    for address in (host, endpoint.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A stream that is read until a moment and no longer.
struct Until {
    stream: TcpStream,
    end: Instant,
}

impl Read for Until {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it takes too long to answer"));
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(into)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("that is no HTTP: {what}"))
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LINE_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.pop() != Some(b'\n') {
        return Err(malformed("a line without end"));
    }
    let line = String::from_utf8(bytes).map_err(|_| malformed("a line that is no text"))?;
    Ok(line.trim_end_matches('\r').to_owned())
}

fn answer(from: &mut impl BufRead) -> io::Result<Answer> {
    let first = line(from)?;
    let mut words = first.split(' ');
    let version = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok()).filter(|_| version);
    let status = status.ok_or_else(|| malformed("a status line"))?;
    let (mut retry_after, mut length) = (None, 0);
    for _ in 0..LINES_MAX {
        let line = line(from)?;
        if line.is_empty() {
            let mut body = Vec::new();
            from.take(BODY_MAX.min(length)).read_to_end(&mut body)?;
            return Ok(Answer { status, retry_after, body });
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header"))?;
        let number = value.trim().parse::<u64>().ok();
        if name.eq_ignore_ascii_case("retry-after") {
            retry_after = number.map(Duration::from_secs);
        } else if name.eq_ignore_ascii_case("content-length") {
            length = number.ok_or_else(|| malformed("a length"))?;
        }
    }
    Err(malformed("a head without end"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, thread};

    fn read(text: &str) -> io::Result<Answer> {
        answer(&mut text.as_bytes())
    }

    #[test]
    fn answers_are_read_as_far_as_they_matter() {
        let body = read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}tail").expect("an answer");
        assert_eq!(body, Answer { status: 200, retry_after: None, body: b"{}".to_vec() });
        let busy = read("HTTP/1.0 503 no\nRetry-After: 7\n\n").expect("an answer");
        assert_eq!((busy.status, busy.retry_after), (503, Some(Duration::from_secs(7))));
    }

    #[test]
    fn an_answer_that_trickles_is_not_waited_for_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut peer, _) = listener.accept().expect("comes");
        // A byte each time, until nobody reads any more.
        let trickle = thread::spawn(move || {
            while peer.write_all(b"a").is_ok() {
                thread::sleep(Duration::from_millis(5));
            }
        });
        let end = Instant::now() + Duration::from_millis(100);
        let error = answer(&mut BufReader::new(Until { stream, end })).expect_err("no answer");
        let late = [io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];
        assert!(late.contains(&error.kind()), "{error}");
        trickle.join().expect("ends with its reader");
    }

    #[test]
    fn nonsense_is_an_error() {
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(LINES_MAX + 1));
        let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(LINE_MAX as usize));
        for text in [
            "",
            "hello\r\n\r\n",
            "HTTP/1.1 x OK\r\n\r\n",
            "SSH-2.0-x 200\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
            &endless,
            &long,
        ] {
            assert!(read(text).is_err(), "{text:.40}");
        }
    }
}
