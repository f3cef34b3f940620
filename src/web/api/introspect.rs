//! POST /introspect (RFC 7662).

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::Serialize;

use crate::account::is_administrator;
use crate::account::roles::RoleFilter;
use crate::auth::grant::Stop;
use crate::model::access::Scope;
use crate::model::clock::Timestamp;
use crate::model::deny::DenyReason;
use crate::model::error_code::ErrorCode;
use crate::model::field_value::exactly_one;
use crate::model::identity::{Identity, Principal};
use crate::model::secret::Secret;
use crate::snapshot::RequestScope;
use crate::web::answer::Json;
use crate::web::body::OAuthForm;
use crate::web::caller::{AnyRequest, RecognisedCaller, owes_password};
use crate::web::error::{OAuthProblem, WebProblem};
use crate::web::openapi::{API_KEY, BASIC, BEARER, COOKIE, Describe, Operation, Schemas};

/// What a token says. All but `active` is there for active tokens only.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "Introspection")]
pub(in crate::web) struct IntrospectionAnswer {
    active: bool,
    #[serde(flatten)]
    known: Option<ActiveToken>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KnownToken")]
struct ActiveToken {
    sub: String,
    scope: String,
    roles: Vec<String>,
    token_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
}

/// A caller that the handler recognises once it has read the form. HTTP Basic with an API key counts as well.
pub(in crate::web) struct DeferredCaller {
    scope: RequestScope,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for DeferredCaller {
    type Rejection = WebProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, WebProblem> {
        let AnyRequest(scope) = AnyRequest::from_request_parts(parts, state).await?;
        let headers = parts.headers.clone();
        Ok(Self { scope, headers })
    }
}

impl Describe for DeferredCaller {
    fn describe(operation: &mut Operation, _: &mut Schemas) {
        operation.recognise(&[BEARER, COOKIE, API_KEY, BASIC].map(|scheme| (scheme, &[][..])));
        operation.refuse(&[
            DenyReason::PasswordMustChange.into(),
            ErrorCode::LoginNeeded,
        ]);
    }
}

impl DeferredCaller {
    /// Recognises the caller, which must have an account of this gateway and no pending change of password.
    async fn recognised(self) -> Result<RecognisedCaller, WebProblem> {
        let api_key_header = &self.scope.snapshot.config.account.api_key_header;
        let credentials = with_basic(self.headers, api_key_header)?;
        let caller = RecognisedCaller::of(self.scope, &Method::POST, &credentials).await?;
        if owes_password(&caller.identity) {
            return Err(DenyReason::PasswordMustChange.into());
        }
        caller.identity.own_uid().ok_or(ErrorCode::LoginNeeded)?;
        Ok(caller)
    }
}

/// Reports the state of a token or API key; exactly `{"active": false}` for everything that the caller may not know.
pub(in crate::web) async fn introspect(
    later: DeferredCaller,
    form: OAuthForm,
) -> Result<Json<IntrospectionAnswer>, OAuthProblem> {
    let RecognisedCaller { scope, identity } = later.recognised().await?;
    let token = form.one("token")?;
    let Some(as_sent) = as_headers(token) else {
        return Ok(Json(IntrospectionAnswer::default()));
    };
    let authorizer = &scope.snapshot.authorizer;
    let asked = match authorizer.authenticate(&as_sent, scope.client).await {
        Ok(asked) => asked,
        Err(Stop::Deny(_) | Stop::Wait(_)) => None,
        Err(stop @ Stop::Fail(_)) => return Err(stop.into()),
    };
    let known = asked
        .filter(|asked| may_know(&identity, asked))
        .map(|asked| known(&scope, &asked));
    Ok(Json(IntrospectionAnswer {
        active: known.is_some(),
        known,
    }))
}

/// Whether the caller may know about `asked`: an API key about itself, a login about its own account, and others with
/// the scope `auth:introspect` or an administrator's login.
fn may_know(caller: &Identity, asked: &Identity) -> bool {
    let Principal::Own { session, .. } = &caller.principal else {
        return false;
    };
    if session.is_some() {
        caller.own_uid() == asked.own_uid() || is_administrator(caller)
    } else {
        caller.key_id.is_some() && caller.key_id == asked.key_id
            || caller.has_scope(Scope::INTROSPECT)
    }
}

fn known(scope: &RequestScope, asked: &Identity) -> ActiveToken {
    let config = &scope.snapshot.config;
    let iss = match &asked.principal {
        Principal::Own { .. } => {
            let is_jwt = asked.key_id.is_none();
            is_jwt.then(|| config.tokens.issuer.clone())
        }
        Principal::Foreign { issuer, .. } => {
            let mut issuers = config.issuers.iter();
            let found = issuers.find(|have| have.name == *issuer);
            found.map(|issuer| issuer.issuer.clone())
        }
    };
    let scopes: Vec<&str> = asked.scopes.iter().map(Scope::as_str).collect();
    let accounts = &scope.snapshot.accounts;
    ActiveToken {
        sub: asked.subject().to_owned(),
        scope: scopes.join(" "),
        roles: accounts.roles_of_caller(asked, &RoleFilter::default()),
        token_type: if asked.key_id.is_some() {
            "api_key"
        } else {
            "Bearer"
        },
        username: asked.username().map(str::to_owned),
        client_id: asked.key_id.map(|id| id.as_str().to_owned()),
        iss,
        exp: asked.expires.map(Timestamp::secs),
    }
}

/// Returns the token in the header field of a request; `None` if no header field can hold it. Authentication recognises
/// an API key in this field by its format.
fn as_headers(token: &str) -> Option<HeaderMap> {
    let field = Secret::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(field.expose()).ok()?;
    value.set_sensitive(true);
    Some(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
}

/// Converts HTTP Basic (key id and key, as OAuth clients send an API key, RFC 6749 section 2.3.1) into the header for
/// API keys. Header fields without Basic are returned unchanged.
fn with_basic(
    mut headers: HeaderMap,
    api_key_header: &HeaderName,
) -> Result<HeaderMap, DenyReason> {
    let field = exactly_one(&headers, &header::AUTHORIZATION).and_then(|field| field.to_str().ok());
    let Some((scheme, rest)) = field.and_then(|text| text.split_once(' ')) else {
        return Ok(headers);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(headers);
    }
    let key = basic_key(rest.trim()).ok_or(DenyReason::ApiKeyInvalid)?;
    if headers.contains_key(api_key_header) {
        return Err(DenyReason::CredentialConflict);
    }
    let mut value = HeaderValue::from_str(key.expose()).map_err(|_| DenyReason::ApiKeyInvalid)?;
    value.set_sensitive(true);
    headers.remove(header::AUTHORIZATION);
    headers.insert(api_key_header.clone(), value);
    Ok(headers)
}

/// Returns the key of a Basic field if the part before the colon is the key's own id.
fn basic_key(encoded: &str) -> Option<Secret> {
    let decoded = STANDARD.decode(encoded).ok()?;
    let text = Secret::new(String::from_utf8(decoded).ok()?);
    let (id, key) = text.expose().split_once(':')?;
    let (prefix, _) = key.split_once('.')?;
    let own_id = prefix.strip_prefix("dwk_").unwrap_or(prefix);
    (own_id == id).then(|| Secret::new(key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-api-key");

    fn basic(text: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(text));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn basic_carries_a_key_under_its_own_id_only() {
        let headers = with_basic(basic("abcdefgh:dwk_abcdefgh.s"), &NAME).unwrap();
        assert_eq!(headers.get(NAME).unwrap(), "dwk_abcdefgh.s");
        assert!(!headers.contains_key(header::AUTHORIZATION));
        for bad in ["zzzzzzzz:dwk_abcdefgh.s", "abcdefgh", "abcdefgh:", ":", ""] {
            let refused = with_basic(basic(bad), &NAME);
            assert_eq!(refused, Err(DenyReason::ApiKeyInvalid), "{bad}");
        }
    }

    #[test]
    fn basic_beside_a_key_is_a_conflict_and_bearer_stays() {
        let mut headers = basic("abcdefgh:dwk_abcdefgh.s");
        headers.insert(NAME, HeaderValue::from_static("dwk_abcdefgh.s"));
        assert_eq!(
            with_basic(headers, &NAME),
            Err(DenyReason::CredentialConflict)
        );
        let bearer = HeaderMap::from_iter([(
            header::AUTHORIZATION,
            HeaderValue::from_static("Bearer a.b.c"),
        )]);
        assert_eq!(with_basic(bearer.clone(), &NAME), Ok(bearer));
    }

    #[test]
    fn a_token_goes_where_a_request_would_carry_it() {
        let bearer = as_headers("a.b.c").unwrap();
        assert_eq!(bearer.get(header::AUTHORIZATION).unwrap(), "Bearer a.b.c");
        assert!(as_headers("a\nb").is_none());
    }
}
