//! The steps of a decision: method override, preflight, route, credential, origin, roles, requirement, grant,
//! assertion.

use std::sync::Arc;

use crate::auth::caller::Caller;
use crate::auth::extract::Credential;
use crate::auth::grant::{Denial, Grant, Stop, Unavailable};
use crate::auth::policy::{CompiledRoute, roles_on};
use crate::auth::rights::Rights;
use crate::auth::trace::{NoTrace, Trace};
use crate::auth::verify::CredentialSource;
use crate::auth::verify::unverified::Unverified;
use crate::auth::view::RequestView;
use crate::auth::{Asking, Authorizer, assertion, method_override, origin, preflight};
use crate::model::access::{Requirement, ResourceRole, Role};
use crate::model::credential::CredentialKinds;
use crate::model::deny::DenyReason;
use crate::model::refusal_fault::RefusalFault;
use crate::model::route::Route;
use crate::role_source::{CacheUse, SourceDown};
use crate::route::choice::{LeadsTo, NoChoice};
use crate::route::normalize::canonical;
use crate::route::table::{Captures, FoundRoute};

impl Authorizer {
    pub(super) async fn run<T: Trace>(
        &self,
        view: &RequestView<'_>,
        asking: Asking<'_>,
        known: &mut PipelineFindings,
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
        known: &mut PipelineFindings,
        trace: &mut T,
    ) -> Result<Grant, Stop> {
        if method_override::is_named(view.headers) {
            let chosen = self.find(view, known, &mut NoTrace)?;
            known.route = Some(Arc::clone(&chosen.route().route));
            for (compiled, _) in chosen.each() {
                method_override::check(view, &compiled.route)?;
            }
        }
        if let Some(route) = self.preflighted(view, trace)? {
            known.route = Some(Arc::clone(&route));
            return Ok(Grant::new(route, None, None));
        }
        let chosen = self.find(view, known, trace)?;
        let route = known.route.insert(Arc::clone(&chosen.route().route));
        let is_public = |route: &CompiledRoute| route.route.require == Requirement::Public;
        if chosen.all(is_public) {
            trace.step("requirement", true, &|| {
                "public: credentials are not read".to_owned()
            });
            return Ok(Grant::new(Arc::clone(route), None, None));
        }
        let asking_routes = chosen.each().filter(|(route, _)| !is_public(route));
        let accept = asking_routes.fold(CredentialKinds::ALL, |kinds, (route, _)| {
            kinds.and(route.route.credentials.accept)
        });
        let presented = match asking {
            Asking::Credential | Asking::Trial => self.credential(view.headers, accept),
            Asking::Account(_) => Ok(None),
        };
        let caller = self.caller(view, presented, asking, trace).await;
        let caller = caller.map_err(|unverified| {
            known.fault = unverified.fault;
            unverified.stop
        })?;
        let Some(caller) = caller else {
            let is_open = chosen.all(|route| {
                matches!(
                    route.route.require,
                    Requirement::Public | Requirement::Optional
                )
            });
            trace.step("credential", is_open, &|| "none came".to_owned());
            let anonymous = is_open.then(|| Grant::new(Arc::clone(route), None, None));
            return anonymous.ok_or(Stop::Deny(DenyReason::CredentialMissing));
        };
        let caller = known.caller.insert(caller);
        if let Ok(Some(credential)) = presented {
            self.check_origin(view, credential, trace)?;
        }
        let given = self.permit(&chosen, caller, trace).await?;
        if is_public(chosen.route()) {
            return Ok(Grant::new(Arc::clone(route), None, None));
        }
        let roles = self.roles_header(route.all_roles, caller, &given, chosen.captures());
        if !caller.fits(roles.as_ref(), self.config.limits.identity_header_bytes_max) {
            trace.step("identity headers", false, &|| {
                format!(
                    "one is longer than limits.identity_header_bytes_max, {} bytes",
                    self.config.limits.identity_header_bytes_max
                )
            });
            return Err(DenyReason::IdentityTooLarge.into());
        }
        Ok(Grant::new(
            Arc::clone(route),
            Some(Arc::clone(caller)),
            roles,
        ))
    }

    /// Checks the requirement of every chosen route. Returns the roles from role sources on the resources of the path,
    /// sorted.
    async fn permit<T: Trace>(
        &self,
        chosen: &ChosenRoutes<'_, '_>,
        caller: &Caller,
        trace: &mut T,
    ) -> Result<Vec<ResourceRole>, Stop> {
        let mut roles = Vec::new();
        for (compiled, captures) in chosen.each() {
            let captures = captures.as_slice();
            let given = self.given(compiled, caller, captures, trace).await;
            let permitted = compiled.permit(&caller.identity, &given.roles, captures);
            if given.is_partial && permitted == Err(DenyReason::RoleMissing) {
                return Err(Unavailable::RoleSource.into());
            }
            trace.step("requirement", permitted.is_ok(), &|| {
                let require = &compiled.route.require;
                match permitted {
                    Ok(()) => format!("{require}: met"),
                    Err(reason) => {
                        let rights = Rights {
                            identity: &caller.identity,
                            given: &given.roles,
                            ladder: &self.config.roles.ladder,
                        };
                        let why = rights.lacking(compiled, reason, captures);
                        format!("{require}: {}{why}", reason.code())
                    }
                }
            });
            permitted?;
            roles.extend(given.roles);
        }
        roles.sort_unstable();
        Ok(roles)
    }

    /// Returns the route that lets this CORS preflight pass: the one for the announced method, if that route allows it.
    /// A request with a credential is not a preflight, and is decided like any other.
    fn preflighted<T: Trace>(
        &self,
        view: &RequestView<'_>,
        trace: &mut T,
    ) -> Result<Option<Arc<Route>>, DenyReason> {
        let Some(method) = preflight::announced(view.method, view.headers) else {
            return Ok(None);
        };
        if self.credential(view.headers, CredentialKinds::ALL) != Ok(None) {
            return Ok(None);
        }
        let announced = RequestView {
            method: &method,
            ..*view
        };
        let chosen = match self.find(&announced, &mut PipelineFindings::default(), trace) {
            Ok(chosen) => chosen,
            Err(DenyReason::PathRefused) => return Err(DenyReason::PathRefused),
            Err(_) => return Ok(None),
        };
        let passes = chosen.all(|compiled| compiled.route.cors_preflight);
        trace.step("preflight", passes, &|| {
            format!("for {method}: cors_preflight of the route decides whether it passes without a credential")
        });
        Ok(passes.then(|| Arc::clone(&chosen.route().route)))
    }

    /// Returns the roles that role sources assign to an account on the resources of the requirement.
    async fn given<T: Trace>(
        &self,
        compiled: &CompiledRoute,
        caller: &Caller,
        captures: &[&str],
        trace: &mut T,
    ) -> SourcedRoles {
        let mut given = SourcedRoles::default();
        let identity = &caller.identity;
        let asked_about = identity
            .own_uid()
            .filter(|_| !identity.has_role(Role::PWCHANGE));
        let Some(uid) = asked_about else {
            return given;
        };
        for (resource, id) in compiled.sourced(captures) {
            let found = self
                .services
                .role_sources
                .roles(uid, resource, Some(id), CacheUse::Cached)
                .await;
            trace.step("role source", found.is_ok(), &|| match &found {
                Ok(_) => format!("asked about {resource} {id}"),
                Err(_) => format!("no answer about {resource} {id}"),
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

    /// Whether the same route would decide a request if it were sent to another host.
    #[must_use]
    pub fn is_one_route(&self, view: &RequestView<'_>, host: &str) -> bool {
        let other = RequestView { host, ..*view };
        let route = |view| {
            let chosen = self
                .find(view, &mut PipelineFindings::default(), &mut NoTrace)
                .ok()?;
            let routes = chosen
                .each()
                .map(|(compiled, _)| Arc::as_ptr(&compiled.route));
            Some(routes.collect::<Vec<_>>())
        };
        route(view) == route(&other)
    }

    fn find<'p, T: Trace>(
        &self,
        view: &RequestView<'p>,
        known: &mut PipelineFindings,
        trace: &mut T,
    ) -> Result<ChosenRoutes<'_, 'p>, DenyReason> {
        let choice = self.table.choose(view.host, view.path, view.method);
        let choice = choice.map_err(|none| self.refusal(none, view, known, trace))?;
        let compiled = |found: FoundRoute<'p>| {
            let compiled = self.routes.get(found.route);
            compiled.map(|compiled| (compiled, found.captures))
        };
        let first = compiled(choice.found).ok_or(DenyReason::NoRoute)?;
        trace.step("route", true, &|| first.0.route.text.clone());
        let slashed = choice.slashed.and_then(compiled).map(Box::new);
        if let Some((other, _)) = slashed.as_deref() {
            trace.step("slash", true, &|| {
                let text = &other.route.text;
                format!(
                    "apart from its trailing slash the path matches {text}: both requirements apply"
                )
            });
        }
        Ok(ChosenRoutes { first, slashed })
    }

    /// Returns why no route decides a request.
    fn refusal<T: Trace>(
        &self,
        none: NoChoice,
        view: &RequestView<'_>,
        known: &mut PipelineFindings,
        trace: &mut T,
    ) -> DenyReason {
        let RequestView {
            host, path, method, ..
        } = view;
        match none {
            NoChoice::NoRoute => {
                trace.step("route", false, &|| {
                    let near = self.near(view);
                    format!("no route matches {method} {path} on host {host}{near}")
                });
                DenyReason::NoRoute
            }
            NoChoice::Method(methods) => {
                trace.step("route", false, &|| {
                    format!(
                        "the pattern that matches {path} on host {host} does not allow {method}"
                    )
                });
                known.methods = methods;
                DenyReason::MethodRefused
            }
            NoChoice::Path(disagreement) => {
                trace.step("path", false, &|| {
                    let sent = disagreement.sent.map(|route| self.text_of(route));
                    let sent = sent.unwrap_or("no route");
                    let other = match disagreement.leads_to {
                        LeadsTo::Route(route) if Some(route) == disagreement.sent => {
                            "the same route with other captures"
                        }
                        LeadsTo::Route(route) => self.text_of(route),
                        LeadsTo::NoMethod => "a pattern that does not allow the method",
                        LeadsTo::Own => "the gateway's own endpoints",
                        LeadsTo::Nowhere => "no route",
                        LeadsTo::TooMany => "too many readings to compare",
                    };
                    let reading = &disagreement.reading;
                    format!("{path} leads to {sent}; a server may read {reading}: {other}")
                });
                DenyReason::PathRefused
            }
        }
    }

    /// Returns a hint for a path that a route would match with a trailing slash.
    fn near(&self, view: &RequestView<'_>) -> String {
        let slashed = format!("{}/", view.path);
        let Ok(target) = canonical(&slashed) else {
            return String::new();
        };
        match self.table.choose(view.host, &target.path, view.method) {
            Ok(choice) => {
                let text = self.text_of(choice.found.route);
                format!("; {text} matches {slashed}, but not the path without the trailing slash")
            }
            Err(_) => String::new(),
        }
    }

    fn text_of(&self, route: usize) -> &str {
        let compiled = self.routes.get(route);
        compiled.map_or("", |compiled| compiled.route.text.as_str())
    }

    async fn caller<T: Trace>(
        &self,
        view: &RequestView<'_>,
        presented: Result<Option<Credential<'_>>, DenyReason>,
        asking: Asking<'_>,
        trace: &mut T,
    ) -> Result<Option<Arc<Caller>>, Unverified> {
        let found: Result<_, Unverified> = match asking {
            // Boxed: used by `explain` only, so it must not enlarge the future of every request.
            Asking::Account(uid) => Box::pin(self.verifier.as_account(uid)).await.map(Some),
            Asking::Credential | Asking::Trial => {
                let source = CredentialSource {
                    client: view.client,
                    counts: matches!(asking, Asking::Credential),
                };
                match presented {
                    Ok(None) => return Ok(None),
                    Ok(Some(credential)) => {
                        self.verifier.verify(credential, source).await.map(Some)
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

    /// If the request changes state or opens a WebSocket, and its credential is ambient (a cookie, Basic, or a token of
    /// an edge in front), its `Origin` must be allowed.
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
        let listed = self.config.session.origins.iter().map(String::as_str);
        let allowed = std::iter::once(own.as_str()).chain(listed);
        let is_allowed = origin::comes_from(view.headers, allowed);
        trace.step("origin", is_allowed, &|| {
            "a credential that browsers attach by themselves is accepted only from pages of the target's own origin or of session.origins"
                .to_owned()
        });
        if is_allowed {
            Ok(())
        } else {
            Err(DenyReason::OriginRefused)
        }
    }
}

/// Formats a caller for `explain`.
fn recognised(caller: &Caller) -> String {
    let identity = &caller.identity;
    let (subject, method) = (identity.subject(), identity.method.as_str());
    let left_out = caller
        .left_out()
        .map(|left_out| format!("; omitted from its token: {left_out}"));
    format!("{subject} by {method}{}", left_out.unwrap_or_default())
}

/// A compiled route with its captures.
type MatchedRoute<'a, 'p> = (&'a CompiledRoute, Captures<'p>);

/// The routes whose requirements are checked.
struct ChosenRoutes<'a, 'p> {
    first: MatchedRoute<'a, 'p>,
    /// The route of the path with its last slash added or removed, if it decides differently.
    /// Boxed, since it is rare and its captures are as large as those of `first`.
    slashed: Option<Box<MatchedRoute<'a, 'p>>>,
}

impl<'a, 'p> ChosenRoutes<'a, 'p> {
    /// Returns the route that leads to the upstream.
    const fn route(&self) -> &'a CompiledRoute {
        self.first.0
    }

    fn captures(&self) -> &[&'p str] {
        self.first.1.as_slice()
    }

    fn each(&self) -> impl Iterator<Item = &MatchedRoute<'a, 'p>> {
        std::iter::once(&self.first).chain(self.slashed.as_deref())
    }

    fn all(&self, fits: impl Fn(&CompiledRoute) -> bool) -> bool {
        self.each().all(|(compiled, _)| fits(compiled))
    }
}

/// Roles from role sources.
#[derive(Default)]
struct SourcedRoles {
    /// Sorted.
    roles: Vec<ResourceRole>,
    /// Whether a source did not answer, so that there may be more.
    is_partial: bool,
}

/// The facts known when the pipeline stops, for the access record.
#[derive(Default)]
pub(super) struct PipelineFindings {
    route: Option<Arc<Route>>,
    caller: Option<Arc<Caller>>,
    fault: Option<RefusalFault>,
    /// The methods that the pattern accepts, if only the method is refused.
    methods: Vec<http::Method>,
}

impl PipelineFindings {
    pub(super) fn denial(self, reason: DenyReason, retry_after_s: Option<u32>) -> Denial {
        Denial {
            reason,
            fault: self.fault,
            route: self.route,
            identity: self.caller.map(|caller| Arc::clone(&caller.identity)),
            retry_after_s,
            methods: self.methods,
        }
    }
}
