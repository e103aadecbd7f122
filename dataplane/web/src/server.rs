//! The thread: accepts, serves, ends.

use crate::{
    Hosts, Limits, Node,
    counters::{Counters, Refused},
    patient::Patient,
    site::Site,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    runtime,
    sync::watch,
    task::{JoinSet, LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

/// What one connection too many is told.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
                      Connection: close\r\n\r\n";
/// After a connection could not be accepted: too many open files do not pass at once.
const BREATH: Duration = Duration::from_millis(50);

/// The thread, once started.
#[derive(Debug)]
pub struct Running {
    leave: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Accepts no more, ends the streams of events, and closes each connection after the answer
    /// under way. The thread ends with the last of them.
    pub fn leave(&self) {
        let _ = self.leave.send(true);
    }

    /// The same, and waits for the thread.
    pub fn stop(self) {
        self.leave();
        // Its panic is shown by itself; the node ends either way.
        let _ = self.thread.join();
    }
}

/// Serves a node at a socket that listens.
///
/// # Errors
/// The OS's: no thread, no runtime.
pub fn start(
    listener: TcpListener,
    node: Arc<dyn Node>,
    hosts: Hosts,
    limits: Limits,
    counters: Arc<Counters>,
) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (leave, leaving) = watch::channel(false);
    let run = move || {
        let local = LocalSet::new();
        let site = Site::new(node, limits, hosts, Arc::clone(&counters), leaving.clone());
        let server = Server { site, limits, counters, leaving };
        // Whatever still runs is dropped with the set.
        local.block_on(&runtime, server.run(listener));
    };
    let thread = Builder::new().name("web".to_owned()).spawn(run)?;
    Ok(Running { leave, thread })
}

struct Server {
    site: Rc<Site>,
    limits: Limits,
    counters: Arc<Counters>,
    leaving: watch::Receiver<bool>,
}

impl Server {
    async fn run(mut self, listener: TcpListener) {
        // Only a socket that is none fails here.
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
        spawn_local(beat(Rc::clone(&self.site), self.limits.beat));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = self.leaving.wait_for(|leaving| *leaving) => break,
                Some(_) = connections.join_next() => {
                    self.counters.open.set(connections.len() as u64);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => self.take(stream, &mut connections),
                Err(_) => sleep(BREATH).await,
            }
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(self.limits.farewell, all).await;
    }

    fn take(&self, stream: TcpStream, connections: &mut JoinSet<()>) {
        if connections.len() >= self.limits.connections {
            self.counters.refuse(Refused::Connections);
            // A new connection has room for this.
            let _ = stream.try_write(FULL);
            return;
        }
        self.counters.accepted.add(1);
        // Larger is slower to notice, not wrong.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, self.limits.send_buffer);
        let _ = stream.set_nodelay(true);
        let counters = Arc::clone(&self.counters);
        let stream = Patient::new(stream, self.limits.patience, Arc::clone(&counters));
        let (site, limits, leaving) = (Rc::clone(&self.site), self.limits, self.leaving.clone());
        connections.spawn_local(async move {
            if let Err(error) = serve(stream, site, limits, leaving).await {
                count(&counters, &error);
            }
        });
        self.counters.open.set(connections.len() as u64);
    }
}

/// Looks at the node again and again.
async fn beat(site: Rc<Site>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.beat().await;
    }
}

/// One connection.
async fn serve(
    stream: Patient,
    site: Rc<Site>,
    limits: Limits,
    mut leaving: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let answer = service_fn(move |request| {
        let site = Rc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.head_lines);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
    let left = async {
        let _ = leaving.wait_for(|leaving| *leaving).await;
        sleep(limits.grace).await;
    };
    tokio::select! {
        done = connection.as_mut() => return done,
        () = left => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// What a connection ended with, where it was its peer's doing.
fn count(counters: &Counters, error: &hyper::Error) {
    if error.is_parse() {
        counters.refuse(Refused::Malformed);
    } else if error.is_timeout() {
        counters.refuse(Refused::Slow);
    }
}
