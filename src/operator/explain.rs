//! `explain`: the live decision about a request that is not sent, step by step.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::auth::Asking;
use crate::auth::grant::{Decision, Grant};
use crate::auth::trace::{Trace, TraceSteps};
use crate::auth::view::RequestView;
use crate::crypto::jwt::UnverifiedToken;
use crate::model::deny::DenyReason;
use crate::model::id::UserId;
use crate::operator::control::{Explain, ExplainVerdict, Explained, ExplainedCaller};
use crate::operator::named::find;
use crate::operator::refusal::CommandStop;
use crate::route::head::{check_method, host_of};
use crate::route::normalize::canonical;
use crate::snapshot::Snapshot;

/// Decides with the same code as the proxy.
///
/// # Errors
/// A sentence that says what is wrong with the question.
pub async fn explain(question: &Explain, snapshot: &Snapshot) -> Result<Explained, String> {
    let method = Method::from_bytes(question.method.as_bytes())
        .map_err(|_| "METHOD must be an HTTP method such as GET".to_owned())?;
    let (host, target) = split(&question.url, &snapshot.config.listen.public_url.authority)?;
    let mut steps = TraceSteps::default();
    if let Err(reason) = check_method(question.method.as_bytes()) {
        steps.step("method", false, &|| {
            "a method that the gateway never passes on".to_owned()
        });
        return Ok(refused(steps, reason.code()));
    }
    let Ok(target) = canonical(&target) else {
        steps.step("path", false, &|| {
            "the path is refused: a dot segment in some reading, a control character, a broken escape, or too many readings to \
             compare"
                .to_owned()
        });
        return Ok(refused(steps, DenyReason::PathRefused.code()));
    };
    steps.step("path", true, &|| target.path.to_string());
    if snapshot.serves_itself(&host, &target.path) {
        let is_clear = snapshot.is_clear(&target.path);
        steps.step("route", is_clear, &|| {
            "the URL leads to one of the gateway's own endpoints, to which no route applies"
                .to_owned()
        });
        if !is_clear {
            return Ok(refused(steps, DenyReason::PathRefused.code()));
        }
        return Ok(ended(ExplainVerdict::Allow, steps));
    }
    let mut headers = HeaderMap::new();
    let account = credential(&question.caller, snapshot, &mut headers).await?;
    let asking = account.as_ref().map_or(Asking::Trial, Asking::Account);
    let view = RequestView {
        method: &method,
        host: &host,
        scheme: &snapshot.config.listen.public_url.scheme,
        authority: &host,
        path: &target.path,
        client: question.from,
        headers: &headers,
    };
    Ok(
        match snapshot
            .authorizer
            .decide_traced(&view, asking, &mut steps)
            .await
        {
            Decision::Allow(grant) => allowed(steps, &grant, snapshot),
            Decision::Deny(denial) => refused(steps, denial.reason.code()),
            Decision::Fail(cause) => ended(ExplainVerdict::Fail(cause.code().to_owned()), steps),
        },
    )
}

/// Adds a credential where a request would carry it. An account has none; its uid is returned instead.
async fn credential(
    caller: &ExplainedCaller,
    snapshot: &Snapshot,
    headers: &mut HeaderMap,
) -> Result<Option<UserId>, String> {
    let value = |text: String| {
        HeaderValue::from_str(&text).map_err(|_| "the credential must be visible ASCII".to_owned())
    };
    match caller {
        ExplainedCaller::Anonymous => {}
        ExplainedCaller::Token(token) => {
            let (name, text) = as_field(token.expose(), snapshot);
            headers.insert(name, value(text)?);
        }
        ExplainedCaller::ApiKey(key) => {
            headers.insert(
                &snapshot.config.account.api_key_header,
                value(key.expose().to_owned())?,
            );
        }
        ExplainedCaller::Account(account) => {
            if let Ok(uid) = UserId::parse(account) {
                return Ok(Some(uid));
            }
            return match find(&snapshot.accounts, account).await {
                Ok(account) => Ok(Some(account.uid)),
                Err(CommandStop::Refused(why) | CommandStop::Failed(why)) => Err(why),
            };
        }
    }
    Ok(None)
}

/// Returns the field that would carry a token, `Authorization` or that of its issuer, and the value of that field.
pub(crate) fn as_field(token: &str, snapshot: &Snapshot) -> (HeaderName, String) {
    let parsed = UnverifiedToken::parse(token).ok();
    let issuer = parsed.as_ref().and_then(UnverifiedToken::issuer);
    let mut issuers = snapshot.config.issuers.iter();
    let found = issuers.find(|it| Some(it.issuer.as_str()) == issuer);
    match found.and_then(|issuer| issuer.header.clone()) {
        Some(name) => (name, token.to_owned()),
        None => (header::AUTHORIZATION, format!("Bearer {token}")),
    }
}

fn allowed(steps: TraceSteps, grant: &Grant, snapshot: &Snapshot) -> Explained {
    let upstream = snapshot
        .config
        .upstreams
        .get(grant.route().upstream)
        .map(|upstream| upstream.name.clone());
    let shown = |value: HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = grant
        .identity_headers()
        .map(|(name, value)| (name.to_string(), shown(value)))
        .collect();
    Explained {
        headers,
        upstream,
        ..ended(ExplainVerdict::Allow, steps)
    }
}

fn refused(steps: TraceSteps, code: &str) -> Explained {
    ended(ExplainVerdict::Deny(code.to_owned()), steps)
}

/// Returns an explanation that ends without an upstream.
fn ended(verdict: ExplainVerdict, steps: TraceSteps) -> Explained {
    Explained {
        verdict,
        steps: steps.0,
        headers: Vec::new(),
        upstream: None,
    }
}

/// Splits a URL or a path into host (lower case, without port) and target in origin form.
fn split(text: &str, own_authority: &str) -> Result<(String, String), String> {
    let wrong = || "URL must be http://host/path or a path that begins with /".to_owned();
    let (authority, target) = if text.starts_with('/') {
        (own_authority, text.to_owned())
    } else {
        let rest = text
            .strip_prefix("http://")
            .or_else(|| text.strip_prefix("https://"))
            .ok_or_else(wrong)?;
        match rest.split_once('/') {
            Some((authority, path)) => (authority, format!("/{path}")),
            None => (rest, "/".to_owned()),
        }
    };
    let host = host_of(authority.as_bytes()).ok_or_else(wrong)?;
    let host = host.to_ascii_lowercase();
    // Callers never send a fragment, so one in the question is a mistake.
    if target.contains('#') {
        Err(wrong())
    } else {
        Ok((host, target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_split_alike() {
        let cases = [
            ("/a?b", ("own", "/a?b")),
            ("http://API.test.:8080/a/../b", ("api.test", "/a/../b")),
            ("https://api.test", ("api.test", "/")),
        ];
        for (text, (host, target)) in cases {
            assert_eq!(
                split(text, "own:80").unwrap(),
                (host.to_owned(), target.to_owned()),
                "{text}"
            );
        }
        for text in ["a", "ftp://a/b", "http:///x", "http://u@a/x", "/a#b"] {
            assert!(split(text, "own").is_err(), "{text}");
        }
    }
}
