//! The documented configuration is correct, and broken ones are reported at the right place without repeating their
//! values.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use doorward::config::{Config, ConfigError, ConfigProblem, EnvOverlay, known_keys, meanings};
use doorward::model::access::Scope;

/// Marks wrong values in the fixtures: no error may repeat it.
const CANARY: &str = "hunter2";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn shown() -> String {
    fs::read_to_string(root().join("config/doorward.toml")).unwrap()
}

fn parse(text: &str) -> Result<(Config, Vec<ConfigProblem>), ConfigError> {
    Config::parse(text, &EnvOverlay::default())
}

fn places(error: &ConfigError) -> Vec<&str> {
    error.problems.iter().map(|p| p.at.as_str()).collect()
}

/// Whether a line is a commented-out key or table head: prose has a space after its `#`.
fn is_commented_key(line: &str) -> bool {
    line.strip_prefix('#')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
}

/// Returns the documented file with every commented key in force, except examples that exclude each other or need
/// files.
fn uncommented(keys: &Path) -> String {
    let mut text = String::new();
    for line in shown().lines() {
        let line = if is_commented_key(line) {
            line.trim_start_matches('#')
        } else {
            line
        };
        let excluded = [
            "jwks_url",
            "secret_jwk_file",
            "secret_file",
            "admin_token_file",
            "smtp_password_file",
            "client_secret_file",
        ];
        if excluded.iter().any(|key| line.starts_with(key)) {
            continue;
        }
        text.push_str(&line.replace("keys/corp.jwks.json", &keys.display().to_string()));
        text.push('\n');
    }
    text
}

#[test]
fn the_shown_file_holds_and_warns_of_nothing() {
    let (config, warnings) = parse(&shown()).unwrap();
    assert_eq!(warnings, []);
    let routes: Vec<_> = config.routes.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(
        routes,
        [
            "/public/**",
            "/hello/**",
            "/lists/{id}/**",
            "/lists/{id}/**",
            "/reports/**"
        ]
    );
    let scopes: Vec<_> = config.roles.scopes.iter().map(Scope::as_str).collect();
    assert_eq!(
        scopes,
        [
            "auth:admin",
            "auth:introspect",
            "auth:members",
            "reports:read"
        ]
    );
}

#[test]
fn every_line_marked_default_says_what_holds_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys.json");
    fs::write(&keys, "{}").unwrap();
    let with = uncommented(&keys);
    let without: String = with
        .lines()
        .filter(|line| !line.ends_with("# default"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let in_force: Vec<_> = shown()
        .lines()
        .filter(|line| line.ends_with("# default") && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        in_force,
        Vec::<String>::new(),
        "a default is commented out, since others may follow from it"
    );
    let marked = with.lines().count() - without.lines().count();
    assert!(60 <= marked, "only {marked} lines are marked");
    let (with, _) = parse(&with).unwrap();
    let (without, _) = parse(&without).unwrap();
    assert_eq!(format!("{with:#?}"), format!("{without:#?}"));
    assert_eq!(with, without);
}

/// Without the examples of tables: the values shown in the sections are the defaults.
#[test]
fn the_shown_file_means_the_same_with_every_default_in_force() {
    let mut in_section = true;
    let mut text = String::new();
    for line in shown().lines() {
        if line.trim_start_matches('#').starts_with('[') {
            in_section = line.starts_with('[') && !line.starts_with("[[");
        }
        let is_default = in_section && is_commented_key(line) && line.ends_with("# default");
        let line = if is_default { &line[1..] } else { line };
        text.push_str(line);
        text.push('\n');
    }
    let (as_shown, _) = parse(&shown()).unwrap();
    let (in_force, _) = parse(&text).unwrap();
    assert_eq!(format!("{as_shown:#?}"), format!("{in_force:#?}"));
    assert_eq!(as_shown, in_force);
}

#[test]
fn every_known_key_is_shown_in_its_section() {
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in shown().lines() {
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix("[[") {
            section = format!("{}[]", name.trim_end_matches("]]"));
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').replace("route.", "route[].");
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.insert(format!("{section}.{key}"));
            for inner in ["any_role", "all_scopes"] {
                if line.contains(&format!("{inner} = ")) {
                    found.insert(format!("{section}.{key}.{inner}"));
                }
            }
        }
    }
    let missing: Vec<_> = known_keys().filter(|key| !found.contains(key)).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The comments of the file are those of the declarations in `src/config`, line by line.
#[test]
fn every_key_is_below_the_comment_of_its_declaration() {
    let mut section = String::new();
    let mut above = Vec::new();
    let mut found = BTreeMap::new();
    for line in shown().lines() {
        if let Some(comment) = line.strip_prefix('#').filter(|rest| rest.starts_with(' ')) {
            above.push(comment.to_owned());
            continue;
        }
        let above = std::mem::take(&mut above);
        let line = line.trim_start_matches('#');
        if let Some(head) = line.strip_prefix('[') {
            let head = head.trim_matches(['[', ']']).replace("route.", "route[].");
            section = if line.starts_with("[[") {
                format!("{head}[]")
            } else {
                head.clone()
            };
            found.entry(head).or_insert(above);
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.entry(format!("{section}.{key}")).or_insert(above);
        }
    }
    for (key, wanted) in meanings().filter(|(key, _)| !key.starts_with("route[].require.")) {
        let lines: Vec<_> = wanted.iter().map(|line| format!("#{line}\n")).collect();
        let said = found
            .get(&key)
            .map(|lines| lines.iter().map(String::as_str).collect());
        assert_eq!(
            said,
            Some(wanted.to_vec()),
            "config/doorward.toml must show {key} below these lines:\n{}",
            lines.concat()
        );
    }
}

#[test]
fn every_example_holds() {
    for entry in fs::read_dir(root().join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Configurations of other programs.
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let loaded = parse(&text);
        assert!(
            loaded.is_ok(),
            "{}: {}",
            path.display(),
            loaded.unwrap_err()
        );
    }
}

/// Each fixture begins with lines `# at: KEY`: the places of all its problems, and no others.
#[test]
fn each_broken_fixture_is_told_by_place_and_never_by_value() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root().join("tests/fixtures/config")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let expected = text
            .lines()
            .filter_map(|line| line.strip_prefix("# at: "))
            .collect::<BTreeSet<_>>();
        assert!(!expected.is_empty(), "{}", path.display());
        let error = parse(&text).err();
        let problems = error.iter().flat_map(|error| &error.problems);
        let found = problems.map(|p| p.at.as_str()).collect::<BTreeSet<_>>();
        let said = error.as_ref().map(|error| format!("{error}\n{error:?}"));
        let said = said.unwrap_or_default();
        if found != expected || said.contains(CANARY) {
            wrong.push(format!("{}: {expected:?}, but:\n{said}", path.display()));
        }
        count += 1;
    }
    assert!(60 <= count, "only {count} fixtures were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_others_may_write_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("doorward.toml");
    for (mode, is_refused) in [(0o600, false), (0o644, false), (0o664, true), (0o646, true)] {
        fs::write(&path, "[log]\nlevel = \"info\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = Config::load(&path, &EnvOverlay::default());
        assert_eq!(loaded.is_err(), is_refused, "{mode:o}");
        if let Err(error) = loaded {
            let remedy = format!("chmod go-w {}", path.display());
            assert!(error.to_string().contains(&remedy), "{error}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing.toml");
    let error = Config::load(&path, &EnvOverlay::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}: expected a file that can be read as text: file not found; name the configuration with --config FILE. It may be empty if the environment sets every key",
            path.display()
        )
    );
}

#[test]
fn a_name_that_is_not_declared_is_answered_by_those_that_are() {
    let text = "[[upstream]]\nname = 'web'\naddresses = ['127.0.0.1:9']\n\
         [[upstream]]\nname = 'mail'\naddresses = ['127.0.0.1:9']\n\
         [[route]]\npath = '/a/{id}'\nupstream = 'wbe'\n\
         require = { any_role = ['lst-{id}-member', 'list-{id}-membre', 'list-{id}-boss'] }\n";
    let error = parse(text).unwrap_err().to_string();
    for said in [
        "expected the name of an [[upstream]]: web, mail; did you mean `web`?",
        "or of a [[role_source]]: list; did you mean `list`?",
        "which yields no role: invitee, member, manager, secret; did you mean `member`?",
    ] {
        assert!(error.contains(said), "{said}\n{error}");
    }
    assert!(
        error.ends_with("invitee, member, manager, secret"),
        "{error}"
    );
    assert!(!error.contains("boss") && !error.contains("wbe"), "{error}");
}

#[test]
fn a_secret_for_proxies_without_any_proxy_is_warned_about() {
    let warned = |text: &str| {
        let (_, warnings) = parse(text).unwrap();
        warnings.iter().any(|it| it.at == "forward_auth.secret")
    };
    let secret = "[forward_auth]\nsecret = '0123456789abcdef'\n";
    assert!(warned(secret));
    let listed = format!("[listen]\ntrusted_proxies = ['127.0.0.1']\n{secret}");
    assert!(!warned(&listed));
}

#[test]
fn the_admin_token_comes_from_four_places() {
    let directory = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef-hunter2";
    let file = directory.path().join("doorward.admin_token");
    fs::write(&file, format!("{token}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let off_loopback = "[listen]\nadmin_address = \"0.0.0.0:8081\"\n";
    let by_key = format!("{off_loopback}admin_token = \"{token}\"\n");
    let by_file = format!("{off_loopback}admin_token_file = \"{}\"\n", file.display());
    let credentials = directory.path().display().to_string();
    let cases: [(&str, &[(&str, &str)]); 4] = [
        (&by_key, &[]),
        (&by_file, &[]),
        (off_loopback, &[("CREDENTIALS_DIRECTORY", &credentials)]),
        (off_loopback, &[("DOORWARD__LISTEN__ADMIN_TOKEN", token)]),
    ];
    for (text, env) in cases {
        let (config, _) =
            Config::parse(text, &EnvOverlay::from_pairs(env.iter().copied())).unwrap();
        let found = config.listen.admin_token.as_ref().unwrap();
        assert_eq!(found.0.expose(), token, "{text}");
        assert!(!format!("{config:?}").contains(CANARY));
    }
    let error = parse(off_loopback).unwrap_err();
    assert_eq!(places(&error), ["listen.admin_token"]);
}

#[test]
fn a_secret_that_others_may_read_is_warned_about() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let config = directory.path().join("doorward.toml");
    let warnings = |text: &str, secret_mode: u32, config_mode: u32| {
        fs::write(&secret, "0123456789abcdef").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(secret_mode)).unwrap();
        fs::write(
            &config,
            format!(
                "{text}\n[[upstream]]\nname = 'a'\naddresses = ['127.0.0.1:9']\n\
            [[route]]\npath = '/x'\nupstream = 'a'\nrequire = 'public'\n"
            ),
        )
        .unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(config_mode)).unwrap();
        let (_, warnings) = Config::load(&config, &EnvOverlay::default()).unwrap();
        warnings.into_iter().map(|w| w.at).collect::<Vec<_>>()
    };
    let path = secret.display();
    let by_file = format!("[listen]\nadmin_token_file = \"{path}\"");
    let by_key = "[listen]\nadmin_token = \"0123456789abcdef\"";
    let issuer = format!(
        "[[issuer]]\nname = 'a'\nissuer = 'a'\naudience = ['a']\nsecret_jwk_file = \"{path}\""
    );
    let none: [&str; 0] = [];
    assert_eq!(warnings(&by_file, 0o640, 0o644), none);
    assert_eq!(
        warnings(&by_file, 0o644, 0o644),
        ["listen.admin_token_file"]
    );
    assert_eq!(warnings(by_key, 0o600, 0o640), none);
    assert_eq!(warnings(by_key, 0o600, 0o644), ["listen.admin_token"]);
    assert_eq!(warnings(&issuer, 0o600, 0o644), none);
    assert_eq!(
        warnings(&issuer, 0o604, 0o644),
        ["issuer[0].secret_jwk_file"]
    );
}

/// Returns the places of a configuration's warnings.
fn warned(text: &str) -> Vec<String> {
    let (_, warnings) = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    warnings.into_iter().map(|warning| warning.at).collect()
}

#[test]
fn trial_settings_are_warned_about_off_loopback() {
    let public = "public_url = \"https://auth.example.com\"";
    let text = shown().replace("[listen]", &format!("[listen]\n{public}"));
    assert_eq!(
        warned(&text),
        [
            "listen.trusted_proxies",
            "upstream[0].addresses",
            "account.registration",
            "route[4].require",
            "mail.transport"
        ]
    );
}

/// A configuration that is reachable for strangers, and each of its parts spoiled.
#[test]
fn settings_unsafe_for_strangers_are_warned_about_one_by_one() {
    let good = "[listen]\naddress = \"0.0.0.0:8080\"\npublic_url = \"https://auth.example.com\"\n\
        trusted_proxies = [\"10.0.0.0/8\"]\nauth_hosts = [\"auth.example.com\"]\n\
        [account]\nregistration = \"invite\"\n\
        [mail]\ntransport = \"sendmail\"\nfrom = \"a@example.com\"\n\
        [roles]\nscopes = [\"lists:read\"]\n\
        [[upstream]]\nname = \"a\"\naddresses = [\"127.0.0.1:9\"]\n\
        [[route]]\npath = \"/x\"\nupstream = \"a\"\nrequire = { any_role = [\"admin\"], all_scopes = [\"lists:read\"] }\n";
    assert_eq!(warned(good), Vec::<String>::new());
    let cases = [
        ("\"invite\"", "\"open\"", "account.registration"),
        (
            "trusted_proxies = [\"10.0.0.0/8\"]",
            "",
            "listen.trusted_proxies",
        ),
        (
            "[\"auth.example.com\"]",
            "[\"login.example.com\"]",
            "listen.auth_hosts",
        ),
        ("any_role = [\"admin\"], ", "", "route[0].require"),
        (
            "scopes = [\"lists:read\"]\n",
            "scopes = [\"lists:write\"]\n",
            "roles.scopes",
        ),
        ("https://", "http://", "listen.public_url"),
        ("127.0.0.1:9", "builtin:echo", "upstream[0].addresses"),
        ("\"sendmail\"", "\"file\"", "mail.transport"),
        ("\"sendmail\"", "\"stdout\"", "mail.transport"),
        ("a@example.com", "a@localhost", "mail.from"),
    ];
    for (right, wrong, at) in cases {
        let spoiled = good.replacen(right, wrong, 1);
        assert_ne!(spoiled, good, "{right}");
        assert_eq!(warned(&spoiled), [at], "{wrong}");
    }
    // A name of this machine, but an address that others reach.
    let text = good
        .replace("https://auth.example.com", "http://localhost:8080")
        .replace("trusted_proxies = [\"10.0.0.0/8\"]", "")
        .replace("[\"auth.example.com\"]", "[\"localhost\"]");
    assert_eq!(warned(&text), ["listen.trusted_proxies"]);
}

#[test]
fn the_defaults_follow_one_another() {
    let (config, warnings) =
        parse("[listen]\naddress = \"127.0.0.2:80\"\nauth_prefix = \"/door\"\n").unwrap();
    assert_eq!(config.listen.public_url.text, "http://127.0.0.2");
    assert_eq!(config.tokens.issuer, "http://127.0.0.2");
    assert_eq!(
        config.mail.reset_link,
        "{public_url}/door/reset?token={token}"
    );
    // Without a route nothing passes, and the operator should not learn that from 404s.
    assert_eq!(warnings.len(), 1);
    // The documented file does not override what follows from the environment.
    let env = EnvOverlay::from_pairs([("DOORWARD__LISTEN__ADDRESS", "127.0.0.1:18080")]);
    let (config, _) = Config::parse(&shown(), &env).unwrap();
    assert_eq!(config.listen.public_url.text, "http://127.0.0.1:18080");
    assert_eq!(config.tokens.issuer, "http://127.0.0.1:18080");
}

#[test]
fn prefixes_that_are_a_choice_are_noted() {
    let issuer = |name: &str, more: &str| {
        format!(
            "[[issuer]]\nname = '{name}'\nissuer = 'https://{name}.test'\naudience = ['a']\njwks_file = 'Cargo.toml'\n{more}\n"
        )
    };
    let rest = "[[upstream]]\nname = 'a'\naddresses = ['127.0.0.1:9']\n\
                [[route]]\npath = '/x'\nupstream = 'a'\nrequire = 'public'\n";
    let noted = |a: &str, b: &str| {
        let text = format!("{}{}{rest}", issuer("a", a), issuer("b", b));
        let (config, warnings) = parse(&text).unwrap();
        let places: Vec<_> = warnings.into_iter().map(|w| w.at).collect();
        let prefixes = config
            .issuers
            .into_iter()
            .map(|issuer| issuer.username_prefix);
        (places, prefixes.collect::<Vec<_>>())
    };
    let cases: [(&str, &str, &[&str], [&str; 2]); 6] = [
        (
            "subject_prefix = 'a:'",
            "subject_prefix = 'b:'",
            &[],
            ["a:", "b:"],
        ),
        (
            "subject_prefix = 'x:'",
            "subject_prefix = 'x:'",
            &["issuer[1].subject_prefix"],
            ["a:", "b:"],
        ),
        (
            "subject_prefix = ''",
            "subject_prefix = ''",
            &["issuer[1].subject_prefix"],
            ["a:", "b:"],
        ),
        (
            "subject_prefix = 'a:'\nusername_claim = 'name'\nusername_prefix = ''",
            "subject_prefix = 'b:'",
            &["issuer[0].username_prefix"],
            ["", "b:"],
        ),
        (
            "subject_prefix = 'a:'\nusername_claim = 'name'\nusername_prefix = '@'",
            "subject_prefix = 'b:'\nusername_claim = 'name'\nusername_prefix = '@b:'",
            &["issuer[1].username_prefix"],
            ["@", "@b:"],
        ),
        (
            "subject_prefix = 'a:'\nusername_claim = 'name'",
            "subject_prefix = 'b:'\nusername_claim = 'name'",
            &[],
            ["a:", "b:"],
        ),
    ];
    for (a, b, places, prefixes) in cases {
        let (found, names) = noted(a, b);
        assert_eq!(found, places, "{a} | {b}");
        assert_eq!(names, prefixes, "{a} | {b}");
    }
}
