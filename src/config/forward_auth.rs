//! `[forward_auth]`: other proxies that ask for decisions.

use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use crate::config::forms::{is_visible, or_none, path, raw_text, text};
use crate::config::keys::keys;
use crate::config::listen::Listen;
use crate::config::reader::SectionReader;
use crate::config::secrets::{self, SecretSources, SharedSecret};

/// Settings for other proxies that ask for decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardAuth {
    /// The secret that an asking proxy sends in `X-Doorward-Secret`; `None`: its address is enough.
    pub secret: Option<SharedSecret>,
    /// The address on which Envoy asks over gRPC; `None`: there is none.
    pub grpc_address: Option<SocketAddr>,
    /// The page to which browsers without a login are redirected; `None`: the gateway's own.
    pub login_url: Option<String>,
}

const GRPC_ADDRESS: &str =
    "an address such as 127.0.0.1:9191, other than those in [listen], or \"\"";
const LOGIN_URL: &str =
    "a URL such as https://auth.example.com/login: http or https, without user and fragment";

keys! { pub(super) ForwardAuthKeys = "forward_auth"; {
    /// Secret that they must send in X-Doorward-Secret as well, 16 to 512 visible ASCII characters, preferably in a file of
    /// its own or as systemd credential doorward.secret. Default: none.
    secret: String = raw_text(secrets::SHARED);
    secret_file: PathBuf = path("the path of a file");
    /// Address at which Envoy asks over gRPC (ext_authz), without encryption; no other listener has it, such as
    /// 127.0.0.1:9191. "": none.
    grpc_address: String = raw_text(GRPC_ADDRESS), restart forward_auth.grpc_address;
    /// Page to which browsers without a login are redirected, with the way back as `rd`; "": the gateway's own page.
    login_url: String = text(LOGIN_URL, login_url);
}}

pub(super) fn read(
    reader: &mut SectionReader<'_>,
    listen: &Listen,
    sources: SecretSources<'_>,
) -> ForwardAuth {
    let keys = (&ForwardAuthKeys::secret, &ForwardAuthKeys::secret_file);
    let secret = secrets::shared(reader, keys, sources);
    let form = or_none(text(GRPC_ADDRESS, |text: &str| address(text, listen)));
    let grpc_address = reader.take_as(&ForwardAuthKeys::grpc_address, &form);
    let grpc_address = grpc_address.flatten();
    if listen.trusted_proxies.is_empty() {
        let asking =
            "the asking proxies in listen.trusted_proxies: without them every question is refused";
        if grpc_address.is_some() {
            reader.warn(&ForwardAuthKeys::grpc_address, asking);
        } else if secret.is_some() {
            reader.warn(&ForwardAuthKeys::secret, asking);
        }
    }
    let login_url = reader.take(&ForwardAuthKeys::login_url);
    ForwardAuth {
        secret,
        grpc_address,
        login_url: login_url.filter(|url| !url.is_empty()),
    }
}

/// Reads an address on which no other listener of the gateway is.
fn address(text: &str, listen: &Listen) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    let is_taken = listen.admin_address == address || listen.addresses.contains(&address);
    (address.port() == 0 || !is_taken).then_some(address)
}

/// Reads the URL of a page. An empty text means none.
fn login_url(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_plain = url.username().is_empty() && url.password().is_none() && !text.contains('#');
    (is_visible(text, 512) && is_web && is_plain).then(|| url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_url_is_a_page_of_the_web() {
        let cases = [
            ("", ""),
            ("https://a.test", "https://a.test/"),
            ("https://a.test/login?x=1", "https://a.test/login?x=1"),
            ("http://127.0.0.1:8080/l", "http://127.0.0.1:8080/l"),
        ];
        for (text, wanted) in cases {
            assert_eq!(login_url(text).as_deref(), Some(wanted), "{text}");
        }
        for bad in [
            "/login",
            "a.test",
            "ftp://a.test",
            "https://u@a.test",
            "https://a.test/#x",
            "https://a.test/a b",
        ] {
            assert_eq!(login_url(bad), None, "{bad}");
        }
    }
}
