//! NATS request and reply: a real nats-server, and a responder behind it that echoes.

use crate::{floor::same, load::Caller, processes::Server};
use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SUBJECT: &str = "peers.echo";
/// On the path, and where Debian and others put it.
const PLACES: [&str; 3] = ["nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"];
/// The default is 1 MiB, and 512 KiB with headers would fit: raised so that the bound is not what
/// is measured.
const CONFIG: &str = "host: 127.0.0.1\nport: -1\nmax_payload: 8MB\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// The broker and the responder.
#[derive(Debug)]
pub(crate) struct Nats {
    broker: std::process::Child,
    responder: Option<Server>,
    folder: PathBuf,
    /// Where the broker listens.
    pub(crate) place: String,
}

/// The broker's program, and what it says of its version.
pub(crate) fn found() -> Result<(PathBuf, String), String> {
    found_at(&PLACES.map(PathBuf::from))
}

fn found_at(places: &[PathBuf]) -> Result<(PathBuf, String), String> {
    for place in places.iter().cloned() {
        if let Ok(output) = Command::new(&place).arg("--version").output() {
            return Ok((place, String::from_utf8_lossy(&output.stdout).trim().to_owned()));
        }
    }
    Err("no nats-server on this machine: apt-get install nats-server".into())
}

impl Nats {
    /// Starts both. `scratch` is a folder that is there.
    pub(crate) fn start(scratch: &Path) -> Result<Self, String> {
        let (program, _) = found()?;
        let folder = scratch.join("nats");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let config = folder.join("nats.conf");
        fs::write(&config, CONFIG).map_err(|error| error.to_string())?;
        let broker = Command::new(program)
            .arg("--config")
            .arg(&config)
            .arg("--ports_file_dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("nats-server does not start: {error}"))?;
        let mut nats = Self { broker, responder: None, folder, place: String::new() };
        nats.place = nats.port()?;
        nats.responder = Some(Server::of_ours("nats-responder", &[&nats.place])?);
        Ok(nats)
    }

    /// The broker writes its ports into a file once it listens.
    fn port(&mut self) -> Result<String, String> {
        let file = self.folder.join(format!("nats-server_{}.ports", self.broker.id()));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let ports = fs::read(&file).unwrap_or_default();
            let ports: serde_json::Value = serde_json::from_slice(&ports).unwrap_or_default();
            if let Some(place) = ports["nats"][0].as_str() {
                return Ok(place.to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("nats-server does not say where it listens".into())
    }

    /// The numbers of both processes.
    pub(crate) fn ids(&self) -> Vec<u32> {
        let responder = self.responder.as_ref().map(Server::id);
        std::iter::once(self.broker.id()).chain(responder).collect()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

async fn connect(place: &str) -> Result<Client, String> {
    async_nats::connect(place).await.map_err(|error| format!("{place}: {error}"))
}

/// Echoes until it is killed.
pub(crate) async fn respond(place: &str) -> Result<(), String> {
    let client = connect(place).await?;
    let mut requests = client.subscribe(SUBJECT).await.map_err(|error| error.to_string())?;
    // The subscription is known to the broker once it has answered.
    client.flush().await.map_err(|error| error.to_string())?;
    println!("listening {place}");
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await.map_err(|error| error.to_string())?;
        }
    }
    Err("the broker has gone".into())
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    body: Bytes,
    client: Client,
}

impl Line {
    /// Connects.
    pub(crate) async fn connect(place: &str, body: Bytes) -> Result<Self, String> {
        Ok(Self { body, client: connect(place).await? })
    }
}

impl Caller for Line {
    async fn call(&self) -> Result<(), String> {
        let answer = self.client.request(SUBJECT, self.body.clone()).await;
        same(&answer.map_err(|error| error.to_string())?.payload, &self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_is_not_there_is_said_with_the_way_out() {
        let absent = found_at(&[PathBuf::from("/nonexistent/nats-server")]);
        assert!(absent.is_err_and(|why| why.contains("apt-get install nats-server")));
    }
}
