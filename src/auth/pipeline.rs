//! The way of a decision: route, credential, origin, roles, requirement, grant.

use std::sync::Arc;

use crate::auth::caller::Caller;
use crate::auth::extract::Credential;
use crate::auth::grant::{Denial, Grant, Stop, Unavailable};
use crate::auth::policy::{CompiledRoute, roles_on};
use crate::auth::rights::Rights;
use crate::auth::trace::Trace;
use crate::auth::verify::Origin;
use crate::auth::verify::unverified::Unverified;
use crate::auth::view::RequestView;
use crate::auth::{Asking, Authorizer, assertion, origin, preflight};
use crate::model::access::{Requirement, ResourceRole, Role};
use crate::model::credential::CredentialKinds;
use crate::model::deny::DenyReason;
use crate::model::route::Route;
use crate::model::token_fault::FaultKind;
use crate::role_source::{Reading, SourceDown};
use crate::route::normalize::without_parameters;
use crate::route::table::Captures;

impl Authorizer {
    pub(super) async fn run<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        known: &mut Known,
        trace: &mut T,
    ) -> Result<Grant, Stop> {
        let grant = self.grant(view, asking, known, trace).await?;
        if !grant.route().assertion {
            return Ok(grant);
        }
        let assertion = match asking {
            Asking::Credential => self.assertions.about(&grant, view)?,
            Asking::Trial | Asking::Account(_) => assertion::UNSIGNED,
        };
        Ok(grant.with_assertion(assertion))
    }

    async fn grant<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        known: &mut Known,
        trace: &mut T,
    ) -> Result<Grant, Stop> {
        if let Some(route) = self.preflighted(view, trace) {
            known.route = Some(Arc::clone(&route));
            return Ok(Grant::new(route, None, None));
        }
        let (compiled, captures) = self.find(view, trace)?;
        let route = known.route.insert(Arc::clone(&compiled.route));
        if route.require == Requirement::Public {
            trace.step("requirement", true, &|| {
                "public: no credential is looked at".to_owned()
            });
            return Ok(Grant::new(Arc::clone(route), None, None));
        }
        let accept = route.credentials.accept;
        let presented = match asking {
            Asking::Credential | Asking::Trial => self.credential(view.headers, accept),
            Asking::Account(_) => Ok(None),
        };
        let caller = self.caller(view, presented, asking, trace).await;
        let caller = caller.map_err(|unverified| {
            known.fault = unverified.fault.as_ref().map(|fault| fault.kind);
            unverified.stop
        })?;
        let Some(caller) = caller else {
            let is_optional = route.require == Requirement::Optional;
            trace.step("credential", is_optional, &|| "none came".to_owned());
            let anonymous = is_optional.then(|| Grant::new(Arc::clone(route), None, None));
            return anonymous.ok_or(Stop::Deny(DenyReason::CredentialMissing));
        };
        let caller = known.caller.insert(caller);
        if let Ok(Some(credential)) = presented {
            self.check_origin(view, credential, trace)?;
        }
        let given = self
            .given(compiled, caller, captures.as_slice(), trace)
            .await;
        let permitted = compiled.permit(&caller.identity, &given.roles, captures.as_slice());
        if given.is_partial && permitted == Err(DenyReason::RoleMissing) {
            return Err(Unavailable::RoleSource.into());
        }
        trace.step("requirement", permitted.is_ok(), &|| match permitted {
            Ok(()) => format!("{}: met", route.require),
            Err(reason) => {
                let rights = Rights {
                    identity: &caller.identity,
                    given: &given.roles,
                    ladder: &self.ladder,
                };
                let why = rights.lacking(compiled, reason, captures.as_slice());
                format!("{}: {}{why}", route.require, reason.code())
            }
        });
        permitted?;
        let roles = self.roles_header(route.all_roles, caller, &given.roles, captures.as_slice());
        Ok(Grant::new(
            Arc::clone(route),
            Some(Arc::clone(caller)),
            roles,
        ))
    }

    /// The route that lets this CORS preflight pass: the one of the method that it announces, if that route says so. What
    /// carries a credential is no preflight, and is decided like everything else.
    fn preflighted<T: Trace>(&self, view: &RequestView<'_>, trace: &mut T) -> Option<Arc<Route>> {
        let method = preflight::announced(view.method, view.headers)?;
        if self.credential(view.headers, CredentialKinds::ALL) != Ok(None) {
            return None;
        }
        let announced = RequestView {
            method: &method,
            ..*view
        };
        let (compiled, _) = self.find(&announced, trace).ok()?;
        let passes = compiled.route.cors_preflight;
        trace.step("preflight", passes, &|| {
            format!("for {method}: the route says whether it passes without a credential")
        });
        passes.then(|| Arc::clone(&compiled.route))
    }

    /// The roles that other services give an account on the resources that the requirement names.
    async fn given<T: Trace>(
        &self,
        compiled: &CompiledRoute,
        caller: &Caller,
        captures: &[&str],
        trace: &mut T,
    ) -> Given {
        let mut given = Given::default();
        let identity = &caller.identity;
        let asked_about = identity
            .own_uid()
            .filter(|_| !identity.has_role(Role::PWCHANGE));
        let Some(uid) = asked_about else {
            return given;
        };
        for (resource, id) in compiled.sourced(captures) {
            let found = self
                .role_sources
                .roles(uid, resource, Some(id), Reading::Cached)
                .await;
            trace.step("role source", found.is_ok(), &|| match &found {
                Ok(_) => format!("asked about {resource} {id}"),
                Err(_) => format!("does not answer about {resource} {id}"),
            });
            match found {
                Ok(roles) => {
                    let on_it = roles_on(&roles, resource, id).cloned();
                    given
                        .roles
                        .extend(on_it.filter_map(|role| identity.narrowed(role)));
                }
                Err(SourceDown) => given.is_partial = true,
            }
        }
        given.roles.sort_unstable();
        given
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
        presented: Result<Option<Credential<'_>>, DenyReason>,
        asking: Asking<'_>,
        trace: &mut T,
    ) -> Result<Option<Arc<Caller>>, Unverified> {
        let found: Result<_, Unverified> = match asking {
            // Asked by `explain` alone, so no request carries it.
            Asking::Account(uid) => Box::pin(self.verifier.as_account(uid))
                .await
                .and_then(|found| found.ok_or(Stop::Deny(DenyReason::SessionEnded)))
                .map(Some)
                .map_err(Unverified::from),
            Asking::Credential | Asking::Trial => {
                let origin = Origin {
                    client: view.client,
                    counts: matches!(asking, Asking::Credential),
                };
                match presented {
                    Ok(None) => return Ok(None),
                    Ok(Some(credential)) => {
                        self.verifier.verify(credential, origin).await.map(Some)
                    }
                    Err(reason) => Err(reason.into()),
                }
            }
        };
        trace.step("credential", found.is_ok(), &|| match &found {
            Ok(Some(caller)) => recognised(caller),
            Ok(None) => "none came".to_owned(),
            Err(unverified) => unverified.text(),
        });
        found
    }

    /// What a browser attaches by itself, a cookie, Basic or a token of an edge in front, authenticates only what a page
    /// sends that may.
    fn check_origin<T: Trace>(
        &self,
        view: &RequestView<'_>,
        credential: Credential<'_>,
        trace: &mut T,
    ) -> Result<(), DenyReason> {
        if !credential.is_ambient() || !origin::is_guarded(view.method, view.headers) {
            return Ok(());
        }
        let own = origin::origin_of(view.scheme, view.authority);
        let listed = self.origins.iter().map(String::as_str);
        let allowed = std::iter::once(own.as_str()).chain(listed);
        let is_allowed = origin::comes_from(view.headers, allowed);
        trace.step("origin", is_allowed, &|| {
            "what browsers attach by themselves counts for pages of the target's own origin and of session.origins"
                .to_owned()
        });
        if is_allowed {
            Ok(())
        } else {
            Err(DenyReason::OriginRefused)
        }
    }
}

/// A caller as `explain` tells it.
fn recognised(caller: &Caller) -> String {
    let identity = &caller.identity;
    let (subject, method) = (identity.subject(), identity.method.as_str());
    let left_out = caller
        .left_out()
        .map(|left_out| format!("; left out of its token: {left_out}"));
    format!("{subject} by {method}{}", left_out.unwrap_or_default())
}

/// Roles that other services give.
#[derive(Default)]
struct Given {
    /// Sorted.
    roles: Vec<ResourceRole>,
    /// A source did not answer: there may be more.
    is_partial: bool,
}

/// What the pipeline has learned by the time it stops, for the record.
#[derive(Default)]
pub(super) struct Known {
    route: Option<Arc<Route>>,
    caller: Option<Arc<Caller>>,
    fault: Option<FaultKind>,
}

impl Known {
    pub(super) fn denial(self, reason: DenyReason, retry_after_s: Option<u32>) -> Denial {
        Denial {
            reason,
            fault: self.fault,
            route: self.route,
            identity: self.caller.map(|caller| Arc::clone(&caller.identity)),
            retry_after_s,
        }
    }
}
