//! A request that another proxy describes, and asks about.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::auth::client::Client;
use crate::auth::grant::{Decision, Denial};
use crate::auth::view::{RequestView, Target};
use crate::model::deny::DenyReason;
use crate::model::refusal_fault::RefusalFault;

/// What a proxy sends when it asks.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The question's own method.
    pub method: &'a Method,
    /// The host with its port that the question was sent to.
    pub authority: &'a str,
    /// The endpoint's path, with what the proxy appends to it.
    pub path_and_query: &'a PathAndQuery,
    /// All header fields: those that describe the request, and those of its caller.
    pub headers: &'a HeaderMap,
    /// Whose request it is, and whether the peer is trusted.
    pub client: Client,
}

/// A request as a trusted proxy describes it.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The method that its caller used.
    pub method: Method,
    /// The scheme that its caller used: `http` or `https`.
    pub scheme: &'a str,
    /// Host, path and query.
    pub target: Target,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// Its header fields, as far as the proxy passes them on.
    pub headers: &'a HeaderMap,
}

impl Asked<'_> {
    /// The request as the decision sees it: no other than if it had come to the gateway itself.
    #[must_use]
    pub fn view(&self) -> RequestView<'_> {
        self.target
            .view(&self.method, self.scheme, self.client, self.headers)
    }
}

/// How it was decided, for the record.
#[derive(Debug)]
pub struct Judged {
    /// Method and target of the request that was asked about; `None`: the question could not be read.
    pub about: Option<(Method, Target)>,
    /// The decision. Its grant leads to no upstream: the proxy that asked has its own.
    pub decision: Decision,
}

impl Judged {
    /// Of a question that could not be read, or that its peer may not ask.
    #[must_use]
    pub const fn unread(reason: DenyReason, fault: Option<RefusalFault>) -> Self {
        Self {
            about: None,
            decision: Decision::Deny(Denial {
                reason,
                fault,
                route: None,
                identity: None,
                retry_after_s: None,
                methods: Vec::new(),
            }),
        }
    }
}
