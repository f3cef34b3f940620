//! The routes that most tests use.

use crate::harness::upstream::Upstream;

/// Returns one upstream, and a route for each requirement: public, optional, authenticated, roles from the path at each
/// level, a global role, scopes.
pub(crate) fn routes(upstream: &Upstream) -> String {
    let address = upstream.address;
    let mut text = format!(
        "[[upstream]]\nname = \"main\"\naddresses = [\"{address}\"]\nresources = [\"list\"]\n"
    );
    let simple = [
        ("/public/**", "\"public\""),
        ("/optional/**", "\"optional\""),
        ("/protected/**", "\"authenticated\""),
        ("/admin/**", "{ any_role = [\"admin\"] }"),
        ("/reports/**", "{ all_scopes = [\"reports:read\"] }"),
        (
            "/both/{id}/**",
            "{ any_role = [\"list-{id}-member\"], all_scopes = [\"reports:read\", \"reports:write\"] }",
        ),
    ];
    for (path, require) in simple {
        text.push_str(&route(path, require));
    }
    for level in ["invitee", "member", "manager", "secret"] {
        text.push_str(&route(
            &format!("/{level}/{{id}}/**"),
            &format!("{{ any_role = [\"list-{{id}}-{level}\"] }}"),
        ));
    }
    text
}

/// Returns one route to the upstream of [`routes`].
pub(crate) fn route(path: &str, require: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nupstream = \"main\"\nrequire = {require}\n")
}
