//! Floor 5: the decision core. No other module decides.

pub mod asked;
pub mod assertion;
pub mod caller;
pub mod client;
pub mod cookie;
pub mod extract;
pub mod grant;
pub mod method_override;
pub mod navigation;
pub mod origin;
pub mod passing;
mod pipeline;
mod policy;
mod preflight;
pub mod return_to;
mod rights;
mod roles;
pub mod strip;
#[cfg(test)]
mod test_kit;
pub mod trace;
pub mod verify;
pub mod view;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::auth::assertion::Assertions;
use crate::auth::caller::Caller;
use crate::auth::cookie::CookieNames;
use crate::auth::extract::{Credential, extract};
use crate::auth::grant::{Decision, Denial, Stop};
use crate::auth::navigation::LoginPage;
use crate::auth::pipeline::PipelineFindings;
use crate::auth::policy::CompiledRoute;
use crate::auth::return_to::ReturnTo;
use crate::auth::trace::{NoTrace, Trace};
use crate::auth::verify::unverified::Unverified;
use crate::auth::verify::{CredentialSource, Verifier};
use crate::auth::view::{OwnView, RequestView};
use crate::config::Config;
use crate::crypto::jwt::SignedToken;
use crate::model::credential::{CredentialKind, CredentialKinds};
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::model::identity::Identity;
use crate::model::route::Route;
use crate::route::table::RouteTable;
use crate::services::Services;

/// The decision point of every surface: the proxy, forward-auth, the gateway's own endpoints and `explain`.
pub struct Authorizer {
    config: Arc<Config>,
    services: Arc<Services>,
    table: RouteTable,
    routes: Vec<CompiledRoute>,
    verifier: Verifier,
    cookies: CookieNames,
    return_to: ReturnTo,
    login_page: LoginPage,
    login_page_behind_proxies: LoginPage,
    assertions: Assertions,
}

/// The principal that a decision is about.
#[derive(Clone, Copy, Debug)]
pub enum Asking<'a> {
    /// The principal of the request's own credential.
    Credential,
    /// The same, but without counting a use: for a request that is not sent.
    Trial,
    /// An account, as if it had logged in: for `explain --as`.
    Account(&'a UserId),
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizer")
            .field("routes", &self.routes.len())
            .finish_non_exhaustive()
    }
}

impl Authorizer {
    /// Compiles the requirements of the routes and prepares the verification of credentials. `table` must be built from
    /// these routes.
    #[must_use]
    pub fn new(
        routes: Vec<Arc<Route>>,
        table: RouteTable,
        config: &Arc<Config>,
        services: &Arc<Services>,
    ) -> Self {
        let compiled = |route| CompiledRoute::new(route, &config.roles);
        let (public_url, session) = (&config.listen.public_url, &config.session);
        Self {
            table,
            routes: routes.into_iter().map(compiled).collect(),
            verifier: Verifier::new(config, services),
            cookies: CookieNames::new(public_url, session),
            return_to: ReturnTo::new(public_url, session),
            login_page: LoginPage::new(config),
            login_page_behind_proxies: LoginPage::behind_proxies(config),
            assertions: Assertions::new(Arc::clone(config), Arc::clone(services)),
            config: Arc::clone(config),
            services: Arc::clone(services),
        }
    }

    /// Decides a request: route, credential, identity, roles, requirement.
    pub async fn decide(&self, view: &RequestView<'_>) -> Decision {
        self.decide_traced(view, Asking::Credential, &mut NoTrace)
            .await
    }

    /// Decides a request, reporting each step to `trace`.
    pub async fn decide_traced<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        trace: &mut T,
    ) -> Decision {
        let mut known = PipelineFindings::default();
        match self.run(view, asking, &mut known, trace).await {
            Ok(grant) => Decision::Allow(grant),
            Err(Stop::Deny(reason)) => Decision::Deny(known.denial(reason, None)),
            Err(Stop::Wait(secs)) => {
                Decision::Deny(known.denial(DenyReason::RateLimited, Some(secs)))
            }
            Err(Stop::Fail(cause)) => Decision::Fail(cause),
        }
    }

    /// Authenticates the caller by the bearer token or API key in these headers, sent from this address; `None` if
    /// there is none. Cookies are not read.
    ///
    /// # Errors
    /// [`Stop::Deny`] for a credential that is not accepted, [`Stop::Wait`] for one over its rate limit, [`Stop::Fail`]
    /// if it cannot be verified.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Option<Arc<Identity>>, Stop> {
        let found = self.authenticate_in_detail(headers, client).await?;
        Ok(found.map(|caller| Arc::clone(&caller.identity)))
    }

    /// Authenticates like [`Authorizer::authenticate`], with details for operators: the omitted claims of a token, or
    /// its fault.
    ///
    /// # Errors
    /// [`Unverified`] where [`Authorizer::authenticate`] returns an error.
    pub async fn authenticate_in_detail(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
    ) -> Result<Option<Arc<Caller>>, Unverified> {
        let Some(credential) =
            extract(headers, &self.verifier.carriers, CredentialKinds::ALL, None)?
        else {
            return Ok(None);
        };
        let source = CredentialSource::request(client);
        self.verifier.verify(credential, source).await.map(Some)
    }

    /// Authenticates the caller of one of the gateway's own endpoints; `None` if there is no credential.
    ///
    /// # Errors
    /// The same as [`Authorizer::authenticate_in_detail`], and [`DenyReason::OriginRefused`] if only an ambient
    /// credential authenticates a guarded request from a page of a foreign origin.
    pub async fn recognise(&self, view: &OwnView<'_>) -> Result<Option<Arc<Identity>>, Unverified> {
        let Some(credential) = self.own_credential(view.headers)? else {
            return Ok(None);
        };
        let source = CredentialSource::request(view.client);
        let caller = self.verifier.verify(credential, source).await?;
        let own = [view.origin, self.config.listen.public_url.text.as_str()];
        let allowed = own.into_iter().chain(self.auth_origins());
        if credential.is_ambient()
            && origin::is_guarded(view.method, view.headers)
            && !origin::comes_from(view.headers, allowed)
        {
            return Err(DenyReason::OriginRefused.into());
        }
        Ok(Some(Arc::clone(&caller.identity)))
    }

    /// Whether a browser that is logged in at the gateway's own endpoints is also logged in on routes, by the cookie
    /// that is read there.
    ///
    /// # Errors
    /// [`Stop::Wait`] and [`Stop::Fail`] as in [`Authorizer::authenticate`].
    pub async fn counts_on_routes(&self, view: &OwnView<'_>) -> Result<bool, Stop> {
        let found = self.credential(view.headers, CredentialKinds::ALL);
        let Ok(Some(credential @ Credential::Cookie(..))) = found else {
            return Ok(false);
        };
        let source = CredentialSource::trial(view.client);
        match self.verifier.verify(credential, source).await {
            Ok(_) => Ok(true),
            Err(unverified) => match unverified.stop {
                Stop::Deny(_) => Ok(false),
                stop => Err(stop),
            },
        }
    }

    /// Whether a request to one of the gateway's own endpoints was sent by one of the gateway's own pages.
    #[must_use]
    pub fn own_page_sent(&self, view: &OwnView<'_>) -> bool {
        let own = [view.origin, self.config.listen.public_url.text.as_str()];
        origin::comes_from(view.headers, own.into_iter())
    }

    /// Returns the configured origins whose scripts may call the gateway's own endpoints, as far as those are for
    /// scripts.
    pub fn auth_origins(&self) -> impl Iterator<Item = &str> {
        self.config.session.auth_origins.iter().map(String::as_str)
    }

    /// Returns the identity logged in by the cookie of routes, or by that of the gateway's own endpoints, ignoring
    /// other credentials; `None` if there is none, or if it cannot be verified. For pages, which decide nothing.
    pub async fn person(
        &self,
        headers: &HeaderMap,
        client: IpAddr,
        is_own: bool,
    ) -> Option<Arc<Identity>> {
        let cookie = if is_own {
            self.cookies.own()
        } else {
            self.cookies.on_routes()
        };
        let accept = CredentialKinds::NONE.with(CredentialKind::Cookie);
        let found = extract(headers, &self.verifier.carriers, accept, Some(cookie));
        let credential = found.ok().flatten()?;
        let source = CredentialSource::trial(client);
        let caller = self.verifier.verify(credential, source).await.ok()?;
        Some(Arc::clone(&caller.identity))
    }

    /// Returns the names of the session cookies.
    #[must_use]
    pub const fn cookies(&self) -> CookieNames {
        self.cookies
    }

    /// Returns the destinations that a login may lead to.
    #[must_use]
    pub const fn return_to(&self) -> &ReturnTo {
        &self.return_to
    }

    /// Returns the URL to redirect the caller of a refused request to; `None` to respond with the reason. A browser
    /// that lacks a login is redirected to the login page. `is_behind_proxy`: the request was described by another proxy.
    #[must_use]
    pub fn instead_of(
        &self,
        denial: &Denial,
        view: &RequestView<'_>,
        path_and_query: &str,
        is_behind_proxy: bool,
    ) -> Option<String> {
        let page = if is_behind_proxy {
            &self.login_page_behind_proxies
        } else {
            &self.login_page
        };
        let route = denial.route.as_ref();
        let accept = route.map_or(CredentialKinds::ALL, |route| route.credentials.accept);
        // Where no cookie is accepted, a browser's login does not help.
        if !accept.contains(CredentialKind::Cookie) {
            return None;
        }
        // A caller with a credential other than a cookie is not a browser that lacks a login.
        let is_browser = matches!(
            self.credential(view.headers, accept),
            Ok(None | Some(Credential::Cookie(..))) | Err(DenyReason::SessionEnded)
        );
        let led = page.instead_of(denial.reason, view, path_and_query, &self.return_to);
        led.filter(|_| is_browser)
    }

    /// Extracts the credential of a request to a route that accepts these kinds.
    fn credential<'a>(
        &self,
        headers: &'a HeaderMap,
        accept: CredentialKinds,
    ) -> Result<Option<Credential<'a>>, DenyReason> {
        let cookie = self.cookies.on_routes();
        extract(headers, &self.verifier.carriers, accept, Some(cookie))
    }

    /// Extracts the credential of a request to one of the gateway's own endpoints.
    fn own_credential<'a>(
        &self,
        headers: &'a HeaderMap,
    ) -> Result<Option<Credential<'a>>, DenyReason> {
        let cookie = self.cookies.own();
        extract(
            headers,
            &self.verifier.carriers,
            CredentialKinds::ALL,
            Some(cookie),
        )
    }

    /// Warms the identity cache for a bearer token that was just issued. Errors are ignored: the first request will
    /// find them.
    pub async fn warm_cache(&self, token: &SignedToken) {
        self.verifier.warm(token).await;
    }

    /// Describes the cache entry of an own token.
    #[cfg(test)]
    pub(crate) fn cached_entry(&self, token: &str) -> Option<String> {
        self.verifier.entry(token)
    }

    /// Whether this thread's own cache keeps the text of a credential.
    #[cfg(test)]
    pub(crate) fn holds_near(text: &str) -> bool {
        Verifier::holds_near(text)
    }

    /// Returns the identity that this credential had on its previous request, with the rights it had then; `None` if
    /// there was none, or if it was evicted. Proves nothing about this request.
    #[must_use]
    pub fn last_identity(&self, headers: &HeaderMap) -> Option<Arc<Identity>> {
        let credential = self.own_credential(headers).ok()??;
        let caller = self.verifier.remembered(credential)?;
        Some(Arc::clone(&caller.identity))
    }
}
