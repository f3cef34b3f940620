//! Forward-auth requests: a request that another proxy describes.

use std::net::IpAddr;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::auth::client::Client;
use crate::auth::grant::{Decision, Denial};
use crate::auth::view::{RequestView, Target};
use crate::model::deny::DenyReason;
use crate::model::refusal_fault::RefusalFault;

/// The request that a proxy sends to ask for a decision.
#[derive(Clone, Copy, Debug)]
pub struct ForwardAuthQuestion<'a> {
    /// The method of the proxy's own request.
    pub method: &'a Method,
    /// The host with its port that the proxy's request was sent to.
    pub authority: &'a str,
    /// The endpoint's path, with anything the proxy appends to it.
    pub path_and_query: &'a PathAndQuery,
    /// All header fields: those that describe the request, and those of its caller.
    pub headers: &'a HeaderMap,
    /// The client, and whether the peer is trusted.
    pub client: Client,
}

/// A request as described by a trusted proxy.
#[derive(Debug)]
pub struct ForwardedRequest<'a> {
    /// The method used by the caller.
    pub method: Method,
    /// The scheme used by the caller: `http` or `https`.
    pub scheme: &'a str,
    /// Host, path and query.
    pub target: Target,
    /// The client's address, after trusted proxies.
    pub client: IpAddr,
    /// The caller's header fields, as far as the proxy passes them on.
    pub headers: &'a HeaderMap,
}

impl ForwardedRequest<'_> {
    /// Returns the request as the decision reads it: the same as if it had been sent to the gateway itself.
    #[must_use]
    pub fn view(&self) -> RequestView<'_> {
        self.target
            .view(&self.method, self.scheme, self.client, self.headers)
    }
}

/// The result of a forward-auth request, for the access record.
#[derive(Debug)]
pub struct ForwardedDecision {
    /// Method and target of the described request; `None` if it could not be read.
    pub about: Option<(Method, Target)>,
    /// The decision. Its grant is not used for an upstream: the proxy has its own.
    pub decision: Decision,
}

impl ForwardedDecision {
    /// Creates the result for a description that could not be read, or whose sender is not allowed to ask.
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
