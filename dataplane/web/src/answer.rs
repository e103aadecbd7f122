//! Answers: their bodies, and the headers that all of them carry.

use crate::events::Events;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Media types of what is served.
pub(crate) mod media {
    pub(crate) const HTML: &str = "text/html; charset=utf-8";
    pub(crate) const JSON: &str = "application/json";
    pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
    pub(crate) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    pub(crate) const EVENTS: &str = "text/event-stream";
}

/// On every answer: what browsers must not do with it.
const GUARDS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// What an answer carries.
pub(crate) enum Content {
    /// Bytes, once.
    Whole(Option<Bytes>),
    /// Events, until one of both sides leaves.
    Events(Events),
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|it| Ok(Frame::data(it)))),
            Self::Events(events) => events.poll(cx).map(|next| next.map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// An answer of one piece that nobody keeps.
pub(crate) fn whole(
    status: StatusCode,
    media: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Content> {
    let bytes = bytes.into();
    // Without a byte there is no frame either.
    let content = Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()));
    of(status, media, content)
}

/// An answer with its guards.
pub(crate) fn of(status: StatusCode, media: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in GUARDS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// A sentence, as an answer.
pub(crate) fn sentence(status: StatusCode, text: &str) -> Response<Content> {
    whole(status, media::TEXT, format!("{text}\n"))
}
