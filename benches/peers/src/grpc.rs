//! gRPC by tonic, with its defaults: a service of one unary method and one bidirectional stream,
//! written by hand so that no protoc is needed. Both echo a message of one `bytes` field.

use crate::{floor::same, load::Caller, turns::Turns};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::BoxFuture};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, http, http::uri::PathAndQuery},
    server::{Grpc, NamedService, StreamingService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

/// `message Packet { bytes body = 1; }`
#[derive(Clone, PartialEq, prost::Message)]
struct Packet {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

const UNARY: &str = "/peers.Echo/Unary";
const STREAM: &str = "/peers.Echo/Stream";

#[derive(Clone, Debug)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "peers.Echo";
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            Ok(match request.uri().path() {
                UNARY => Grpc::new(Codec::default()).unary(Self, request).await,
                STREAM => Grpc::new(Codec::default()).streaming(Self, request).await,
                other => Status::unimplemented(other.to_owned()).into_http(),
            })
        })
    }
}

type Codec = ProstCodec<Packet, Packet>;
type Packets = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

impl UnaryService<Packet> for Echo {
    type Response = Packet;
    type Future = BoxFuture<'static, Result<Response<Packet>, Status>>;

    fn call(&mut self, request: Request<Packet>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl StreamingService<Packet> for Echo {
    type Response = Packet;
    type ResponseStream = Packets;
    type Future = BoxFuture<'static, Result<Response<Packets>, Status>>;

    fn call(&mut self, request: Request<Streaming<Packet>>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner().boxed())) })
    }
}

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<(), String> {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).map_err(|e| e.to_string())?;
    let incoming = incoming.with_nodelay(Some(true));
    println!("listening {}", incoming.local_addr().map_err(|e| e.to_string())?);
    let server = Server::builder().add_service(Echo).serve_with_incoming(incoming);
    server.await.map_err(|error| error.to_string())
}

async fn channel(place: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{place}")).map_err(|e| e.to_string())?;
    endpoint.connect().await.map_err(|error| format!("{place}: {error}"))
}

/// A connection on which every call is a request of its own.
#[derive(Debug)]
pub(crate) struct Unary {
    body: Bytes,
    channel: Channel,
}

impl Unary {
    /// Connects.
    pub(crate) async fn connect(place: &str, body: Bytes) -> Result<Self, String> {
        Ok(Self { body, channel: channel(place).await? })
    }
}

impl Caller for Unary {
    async fn call(&self) -> Result<(), String> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| error.to_string())?;
        let request = Request::new(Packet { body: self.body.clone() });
        let path = PathAndQuery::from_static(UNARY);
        let answer = client.unary(request, path, Codec::default()).await;
        let answer: Packet = answer.map_err(|status| status.to_string())?.into_inner();
        same(&answer.body, &self.body)
    }
}

/// A connection with one stream that lives as long as it does.
#[derive(Debug)]
pub(crate) struct Bidirectional {
    body: Bytes,
    send: Mutex<mpsc::UnboundedSender<Packet>>,
    turns: Turns,
}

impl Bidirectional {
    /// Connects and opens the stream.
    pub(crate) async fn connect(place: &str, body: Bytes) -> Result<Self, String> {
        let mut client = tonic::client::Grpc::new(channel(place).await?);
        client.ready().await.map_err(|error| error.to_string())?;
        let (send, sent) = mpsc::unbounded_channel();
        let request = Request::new(UnboundedReceiverStream::new(sent));
        let path = PathAndQuery::from_static(STREAM);
        let answers = client.streaming(request, path, Codec::default()).await;
        let mut answers: Streaming<Packet> = answers.map_err(|s| s.to_string())?.into_inner();
        let turns = Turns::default();
        let answered = turns.clone();
        tokio::spawn(async move {
            while let Ok(Some(packet)) = answers.message().await {
                answered.answer(packet.body);
            }
            answered.close();
        });
        Ok(Self { body, send: Mutex::new(send), turns })
    }
}

impl Caller for Bidirectional {
    async fn call(&self) -> Result<(), String> {
        let turn = {
            let send = self.send.lock().map_err(|_| "a sender panicked")?;
            let packet = Packet { body: self.body.clone() };
            send.send(packet).map_err(|_| "the stream has ended")?;
            self.turns.take()
        };
        let answer = turn.await.map_err(|_| "the stream ended")?;
        same(&answer, &self.body)
    }
}
