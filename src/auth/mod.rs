//! Floor 3: the decision core. Nobody else decides.

pub mod caller;
pub mod extract;
pub mod grant;
mod policy;
pub mod strip;
pub mod trace;
pub mod verify;
pub mod view;

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::caller::Caller;
use crate::auth::extract::extract;
use crate::auth::grant::{Decision, Denial, Grant, Stop};
use crate::auth::policy::{CompiledRoute, roles_on};
use crate::auth::trace::{NoTrace, Trace};
use crate::auth::verify::{Verifier, VerifierParts};
use crate::auth::view::RequestView;
use crate::model::access::{Ladder, Name, Requirement, Role};
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::model::identity::Identity;
use crate::model::route::Route;
use crate::route::normalize::without_parameters;
use crate::route::table::{Captures, RouteTable};

/// Decides, for every surface: the proxy, forward-auth, the gateway's own endpoints and `explain`.
pub struct Authorizer {
    table: RouteTable,
    routes: Vec<CompiledRoute>,
    verifier: Verifier,
    api_key_header: HeaderName,
    resources: Vec<Name>,
    ladder: Ladder,
}

/// Whom a decision is about.
#[derive(Clone, Copy, Debug)]
pub enum Asking<'a> {
    /// Whoever the request's own credential says.
    Credential,
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
    /// Readies the requirements of the routes and the verification of credentials. `table`: built from these routes.
    #[must_use]
    pub fn new(routes: Vec<Arc<Route>>, table: RouteTable, parts: VerifierParts<'_>) -> Self {
        let roles = &parts.config.roles;
        Self {
            table,
            routes: routes
                .into_iter()
                .map(|route| CompiledRoute::new(route, &roles.resources, &roles.ladder))
                .collect(),
            api_key_header: parts.config.account.api_key_header.clone(),
            resources: roles.resources.clone(),
            ladder: roles.ladder.clone(),
            verifier: Verifier::new(parts),
        }
    }

    /// The one decision: route, credential, identity, roles, requirement.
    pub async fn decide(&self, view: &RequestView<'_>) -> Decision {
        self.decide_traced(view, Asking::Credential, &mut NoTrace)
            .await
    }

    /// The same decision, each step told to `trace`.
    pub async fn decide_traced<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        trace: &mut T,
    ) -> Decision {
        let mut known = Known::default();
        match self.run(view, asking, &mut known, trace).await {
            Ok(grant) => Decision::Allow(grant),
            Err(Stop::Deny(reason)) => {
                let identity = known.caller.map(|caller| Arc::clone(&caller.identity));
                Decision::Deny(Denial {
                    reason,
                    route: known.route,
                    identity,
                })
            }
            Err(Stop::Fail(cause)) => Decision::Fail(cause),
        }
    }

    /// The first half: who sends these headers; `None`: no credential came.
    ///
    /// # Errors
    /// [`Stop::Deny`] for a credential that is not accepted, [`Stop::Fail`] when that cannot be told.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Arc<Identity>>, Stop> {
        let Some(credential) = extract(headers, &self.api_key_header)? else {
            return Ok(None);
        };
        let caller = self.verifier.verify(credential).await?;
        Ok(Some(Arc::clone(&caller.identity)))
    }

    async fn run<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        known: &mut Known,
        trace: &mut T,
    ) -> Result<Grant, Stop> {
        let (compiled, captures) = self.find(view, trace)?;
        let route = known.route.insert(Arc::clone(&compiled.route));
        if route.require == Requirement::Public {
            trace.step("requirement", true, &|| {
                "public: no credential is looked at".to_owned()
            });
            return Ok(Grant::new(Arc::clone(route), None, None));
        }
        let caller = self.caller(view, asking, trace).await?;
        let Some(caller) = caller else {
            let is_optional = route.require == Requirement::Optional;
            trace.step("credential", is_optional, &|| "none came".to_owned());
            let anonymous = is_optional.then(|| Grant::new(Arc::clone(route), None, None));
            return anonymous.ok_or(Stop::Deny(DenyReason::CredentialMissing));
        };
        let caller = known.caller.insert(caller);
        let permitted = compiled.permit(&caller.identity, captures.as_slice());
        trace.step("requirement", permitted.is_ok(), &|| match permitted {
            Ok(()) => format!("{}: met", route.require),
            Err(reason) => format!("{}: {}", route.require, reason.code()),
        });
        permitted?;
        let roles = self.roles_header(route.all_roles, caller, captures.as_slice());
        Ok(Grant::new(
            Arc::clone(route),
            Some(Arc::clone(caller)),
            roles,
        ))
    }

    fn find<'p, T: Trace>(
        &self,
        view: &RequestView<'p>,
        trace: &mut T,
    ) -> Result<(&CompiledRoute, Captures<'p>), DenyReason> {
        let found = self.table.find(view.host, view.path, view.method);
        // Some upstreams read `/admin;x/y` as `/admin/y`: if that would be another route, neither reading counts.
        if let Some(bare) = without_parameters(view.path) {
            let other = self
                .table
                .find(view.host, &bare, view.method)
                .map(|found| found.route);
            if other != found.map(|found| found.route) {
                trace.step("path", false, &|| {
                    format!("{} and {bare} are different routes", view.path)
                });
                return Err(DenyReason::PathRefused);
            }
        }
        let route = found.and_then(|found| {
            self.routes
                .get(found.route)
                .map(|route| (route, found.captures))
        });
        trace.step("route", route.is_some(), &|| match &route {
            Some((compiled, _)) => compiled.route.text.clone(),
            None => format!(
                "none matches {} {} on host {}",
                view.method, view.path, view.host
            ),
        });
        route.ok_or(DenyReason::NoRoute)
    }

    async fn caller<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        trace: &mut T,
    ) -> Result<Option<Arc<Caller>>, Stop> {
        let found = match asking {
            Asking::Account(uid) => self.verifier.as_account(uid).await.and_then(|found| {
                found.map_or(Err(DenyReason::SessionEnded.into()), |caller| {
                    Ok(Some(caller))
                })
            }),
            Asking::Credential => match extract(view.headers, &self.api_key_header) {
                Ok(None) => return Ok(None),
                Ok(Some(credential)) => self.verifier.verify(credential).await.map(Some),
                Err(reason) => Err(reason.into()),
            },
        };
        trace.step("credential", found.is_ok(), &|| match &found {
            Ok(Some(caller)) => format!(
                "{} by {}",
                caller.identity.subject(),
                caller.identity.method.as_str()
            ),
            Ok(None) => "none came".to_owned(),
            Err(Stop::Deny(reason)) => reason.code().to_owned(),
            Err(Stop::Fail(cause)) => cause.code().to_owned(),
        });
        found
    }

    /// `X-Auth-Roles`: the global roles and those on resources whose id is in the path; all of them if the route asks.
    fn roles_header(&self, all: bool, caller: &Caller, captures: &[&str]) -> Option<HeaderValue> {
        let identity = &caller.identity;
        let concerns =
            |resource: &Name, id: &&str| roles_on(identity, resource, id).next().is_some();
        let is_concerned = self
            .resources
            .iter()
            .any(|resource| captures.iter().any(|id| concerns(resource, id)));
        if identity.resource_roles.is_empty() || !(all || is_concerned) {
            return caller.roles.clone();
        }
        let concerned = identity
            .resource_roles
            .iter()
            .filter(|role| all || captures.contains(&role.id.as_str()));
        let names: Vec<_> = concerned
            .flat_map(|role| role.names(&self.ladder))
            .collect();
        caller::list(
            identity
                .roles
                .iter()
                .map(Role::as_str)
                .chain(names.iter().map(String::as_str)),
        )
    }
}

/// What the pipeline has learned by the time it stops, for the record.
#[derive(Default)]
struct Known {
    route: Option<Arc<Route>>,
    caller: Option<Arc<Caller>>,
}
