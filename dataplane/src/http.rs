//! What a node shows over HTTP: where, to whom, and the refusal of what contradicts itself.

use crate::{
    listen::{Bound, Place},
    plan::{PlanError, refuse, resolved},
    settings::Settings,
};
use std::net::SocketAddr;

/// Where the page is unless told otherwise.
const DEFAULT: &str = "127.0.0.1:7180";

/// Where and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpPlan {
    /// The address.
    pub(crate) address: SocketAddr,
    /// Nobody named it: where it is taken, a free port does as well.
    pub(crate) is_default: bool,
    /// Names that are answered beside addresses.
    pub(crate) hosts: Vec<String>,
}

impl HttpPlan {
    /// Checks what a person said; `None` where nothing is to be shown.
    pub(crate) fn new(settings: &Settings) -> Result<Option<Self>, PlanError> {
        let open = settings.http_open.unwrap_or(false);
        let hosts = settings.http_host.clone();
        if settings.http.as_deref() == Some("off") {
            if open {
                let remedy = "nothing is shown with --http off: leave one of the two out";
                return Err(refuse("http_open", true, remedy));
            }
            if let Some(host) = hosts.first() {
                let remedy = "nobody is answered with --http off: leave one of the two out";
                return Err(refuse("http_host", host, remedy));
            }
            return Ok(None);
        }
        if let Some(host) = hosts.iter().find(|host| !web::is_name(host)) {
            let remedy = "write a name alone, as node-1.example.org, without scheme and port";
            return Err(refuse("http_host", host, remedy));
        }
        let text = settings.http.as_deref().unwrap_or(DEFAULT);
        let addresses = resolved("http", &[text.to_owned()])?;
        let [address, ..] = addresses[..] else {
            return Err(refuse("http", text, "this name has no address: write one, or off"));
        };
        // All that a name leads to, not only the first.
        let is_near = addresses.iter().all(|address| address.ip().is_loopback());
        match (is_near, open) {
            (false, false) => Err(refuse(
                "http",
                text,
                "whoever reaches it sees everything it shows, in plaintext: stay on 127.0.0.1, or \
                 accept that with --http-open",
            )),
            (true, true) => {
                let remedy = "nothing is open on loopback: name another address with --http, or \
                              leave --http-open out";
                Err(refuse("http_open", true, remedy))
            }
            _ => Ok(Some(Self { address, is_default: settings.http.is_none(), hosts })),
        }
    }

    /// Beyond this host.
    pub(crate) const fn is_open(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Who can look, in words.
    pub(crate) const fn openness(&self) -> &'static str {
        if self.is_open() { "open, insecure: to whoever reaches it" } else { "loopback" }
    }

    /// What somebody should know of where it is.
    pub(crate) fn notes(&self, bound: &Bound) -> Vec<String> {
        let mut notes = Vec::new();
        if self.is_open() {
            let text = "insecure: the status page is open to whoever reaches it";
            notes.push(text.to_owned());
        }
        let elsewhere = |place: &Place| match place {
            Place::Http(real) if self.is_default && *real != self.address => Some(*real),
            _ => None,
        };
        notes.extend(bound.places().iter().find_map(elsewhere).map(|real| {
            format!("{DEFAULT} is taken: the status page is at {real}; --http ADDR names another")
        }));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        http: Option<&str>,
        open: Option<bool>,
        hosts: &[&str],
    ) -> Result<Option<HttpPlan>, String> {
        let settings = Settings {
            http: http.map(str::to_owned),
            http_open: open,
            http_host: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Settings::default()
        };
        HttpPlan::new(&settings).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_on_loopback_unless_told_otherwise() {
        let default = plan(None, None, &[]).expect("stands").expect("shown");
        assert_eq!(default.address, SocketAddr::from(([127, 0, 0, 1], 7180)));
        assert!(default.is_default && !default.is_open());
        let named =
            plan(Some("[::1]:0"), Some(false), &["node-1"]).expect("stands").expect("shown");
        assert!(!named.is_default && named.hosts == ["node-1"]);
        assert_eq!(plan(Some("off"), None, &[]).expect("stands"), None);
        let open = plan(Some("0.0.0.0:80"), Some(true), &[]).expect("stands").expect("shown");
        assert!(open.is_open());
    }

    #[test]
    fn what_is_open_or_contradicts_itself_is_refused_with_the_way_out() {
        for (http, open, hosts, says) in [
            (Some("0.0.0.0:80"), None, &[][..], "http = 0.0.0.0:80: whoever reaches it"),
            (Some("[::]:80"), Some(false), &[], "--http-open"),
            (Some("off"), Some(true), &[], "http_open = true: nothing is shown with --http off"),
            (Some("off"), None, &["a"], "http_host = a: nobody is answered with --http off"),
            (None, Some(true), &[], "http_open = true: nothing is open on loopback"),
            (Some("7180"), None, &[], "http = 7180"),
            (Some(""), None, &[], "http = "),
            (None, None, &["http://a:80"], "without scheme and port"),
        ] {
            let error = plan(http, open, hosts).expect_err("refused");
            assert!(error.contains(says), "{error}");
        }
    }
}
