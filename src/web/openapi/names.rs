//! What operations are called (`operationId`): generators make the names of functions of it, so none ever changes.

/// The names by method and path below the prefix. What is not here is called by its method and path.
const NAMES: [(&str, &str, &str); 51] = [
    ("get", "/accounts", "listAccounts"),
    ("post", "/accounts", "createAccount"),
    ("get", "/accounts/{account_id}", "getAccount"),
    ("patch", "/accounts/{account_id}", "updateAccount"),
    ("delete", "/accounts/{account_id}", "removeAccount"),
    (
        "get",
        "/accounts/{account_id}/sessions",
        "listSessionsOfAccount",
    ),
    (
        "delete",
        "/accounts/{account_id}/sessions",
        "endSessionsOfAccount",
    ),
    ("get", "/apikeys", "listApiKeys"),
    ("post", "/apikeys", "createApiKey"),
    ("get", "/apikeys/{id}", "getApiKey"),
    ("patch", "/apikeys/{id}", "updateApiKey"),
    ("delete", "/apikeys/{id}", "revokeApiKey"),
    ("post", "/apikeys/{id}/rotate", "rotateApiKey"),
    ("get", "/assets/docs.css", "getDocsStyle"),
    ("get", "/assets/docs.js", "getDocsScript"),
    ("get", "/assets/portal.css", "getPageStyle"),
    ("get", "/confirm", "showConfirmPage"),
    ("post", "/confirm", "submitConfirmPage"),
    ("get", "/docs", "showDocs"),
    ("get", "/forgot", "showForgotPage"),
    ("post", "/forgot", "requestPasswordReset"),
    ("post", "/introspect", "introspectToken"),
    ("get", "/login", "showLoginPage"),
    ("post", "/login", "logIn"),
    ("post", "/logout", "logOut"),
    ("get", "/me", "getMe"),
    ("patch", "/me", "updateMe"),
    ("put", "/me/identity", "confirmIdentity"),
    ("get", "/members/{resource}/{id}", "listMembers"),
    ("get", "/members/{resource}/{id}/{uid}", "getMember"),
    ("put", "/members/{resource}/{id}/{uid}", "setMember"),
    ("delete", "/members/{resource}/{id}/{uid}", "removeMember"),
    ("get", "/methods", "listMethods"),
    ("get", "/openapi.json", "getOpenApiDocument"),
    ("get", "/password", "showPasswordPage"),
    ("post", "/password", "submitPasswordPage"),
    ("put", "/password", "setPassword"),
    ("get", "/register", "showRegisterPage"),
    ("post", "/register", "register"),
    ("get", "/reset", "showResetPage"),
    ("post", "/reset", "submitResetPage"),
    ("get", "/roles", "listRoles"),
    ("post", "/roles/refresh", "refreshRoles"),
    ("get", "/sessions", "listSessions"),
    ("delete", "/sessions", "endSessions"),
    ("get", "/sessions/{id}", "getSession"),
    ("delete", "/sessions/{id}", "endSession"),
    ("get", "/settings/{id}", "getSettings"),
    ("put", "/settings/{id}", "setSettings"),
    ("post", "/token", "refreshTokens"),
    ("get", "/.well-known/jwks.json", "getSigningKeys"),
];

/// The name of an operation: `listApiKeys`. One that has none of its own is called by its method and path, so that `post`
/// of `/verify/{target}` is `postVerifyTarget`, and `post` of `/verify/` is `postVerifySlash`.
pub(in crate::web::openapi) fn operation_id(method: &str, path: &str) -> String {
    let named = NAMES
        .iter()
        .find(|(has_method, has_path, _)| *has_method == method && *has_path == path);
    if let Some((_, _, name)) = named {
        return (*name).to_owned();
    }
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let mut id = method.to_owned();
    for word in words.filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    if path.ends_with('/') {
        id.push_str("Slash");
    }
    id
}
