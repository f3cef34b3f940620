//! Tests of the paths that pass, and of those that some server would read as stricter ones.

use std::sync::Arc;

use http::Method;
use proptest::prelude::*;

use crate::model::access::{LevelRank, Name, Requirement, Role, RoleTemplate};
use crate::model::path::CanonicalPath;
use crate::model::route::Route;
use crate::route::choice::{LeadsTo, NoChoice};
use crate::route::escape::may_stand_raw;
use crate::route::normalize::canonical;
use crate::route::table::RouteTable;
use crate::route::test_kit::{literal_route, table};

/// The strictness of a route.
const PUBLIC: usize = 0;
const AUTHENTICATED: usize = 1;
const ADMIN: usize = 2;

fn require(strictness: usize) -> Requirement {
    match strictness {
        PUBLIC => Requirement::Public,
        AUTHENTICATED => Requirement::Authenticated,
        _ => Requirement::Rights {
            any_role: vec![RoleTemplate::Plain(Role::parse("admin").unwrap())],
            all_scopes: Vec::new(),
        },
    }
}

fn route(pattern: &str, strictness: usize) -> Arc<Route> {
    changed(pattern, |route| route.require = require(strictness))
}

fn changed(pattern: &str, change: impl Fn(&mut Route)) -> Arc<Route> {
    let mut route = Route::clone(&literal_route(pattern, &[], &[]));
    change(&mut route);
    Arc::new(route)
}

/// Returns the indices of the routes whose requirements are checked for a path, or why there are none.
fn asked(table: &RouteTable, path: &CanonicalPath, method: &Method) -> Result<Vec<usize>, String> {
    match table.choose("h", path, method) {
        Ok(choice) => {
            let slashed = choice.slashed.map(|found| found.route);
            Ok(std::iter::once(choice.found.route).chain(slashed).collect())
        }
        Err(NoChoice::NoRoute) => Err("no route".to_owned()),
        Err(NoChoice::Method(methods)) => Err(format!("{methods:?}")),
        Err(NoChoice::Path(disagreement)) => Err(match disagreement.leads_to {
            LeadsTo::Route(place) => format!("or {place}"),
            other => format!("or {other:?}"),
        }),
    }
}

fn get(routes: &[Arc<Route>], path: &str) -> Result<Vec<usize>, String> {
    let path = canonical(path).unwrap().path;
    asked(&table(routes).unwrap(), &path, &Method::GET)
}

#[test]
fn a_path_passes_where_nothing_depends_on_it_and_never_steps_around_a_rule() {
    let cases = [
        ("/%40admin/x", "/@admin/**"),
        ("/%2540admin/x", "/@admin/**"),
        ("/Admin/x", "/admin/**"),
        ("/admin/x", "/Admin/**"),
        ("/a/B", "/a/b"),
        ("/%E2%84%AAey/x", "/key/**"),
        ("/key/x", "/%E2%84%AAey/**"),
        ("/%C3%89/x", "/%C3%A9/**"),
        ("/adm%C4%B0n/x", "/admin/**"),
        ("/admi%CC%87n/x", "/admin/**"),
        ("/e%CC%81/x", "/%C3%A9/**"),
        ("/caf%E9", "/caf%C3%A9"),
        ("/files/a%2Fb", "/files/a/b"),
        ("/files/a%2Fb", "/files/{x}/{y}"),
        ("/files/a%252Fb", "/files/a/b"),
        ("/%40u/a%2Fb", "/@u/{x}"),
        ("/npm/@scope%2fname", "/npm/@scope/**"),
        ("/room/%23name", "/room"),
        ("/room/%3Fname", "/room"),
        ("/repo//x", "/repo/x"),
        ("/repo%2F/x", "/repo/x"),
        ("//admin/x", "/admin/**"),
        ("//h.test/admin", "/admin"),
        ("/%2Fadmin/x", "/admin/**"),
        ("/\\admin", "/admin"),
        ("/a\\b", "/a/b"),
        ("/a%5Cb", "/a/b"),
        ("/a;x=1/b", "/a/b"),
        ("/a;x=%2F/b", "/a/b"),
        ("/a%3Bx/b", "/a/b"),
        ("/a%253Bx/b", "/a/b"),
        ("/;/a", "/a"),
        ("/a./b", "/a/b"),
        ("/a%20/b", "/a/b"),
        ("/a%20.%20/b", "/a/b"),
        ("/a%3Fx", "/a"),
        ("/a%2523x", "/a"),
        ("/a%2500x", "/a"),
        ("/a%2509b", "/ab"),
        ("/a%2541", "/aA"),
        ("/%EF%BD%81/x", "/a/**"),
        ("/%EF%BC%A1/x", "/a/**"),
        ("/a%EF%BC%8Fb", "/a/b"),
        ("/a%E2%88%95b", "/a/b"),
        ("/a%C2%A5b", "/a/b"),
        ("/a%C0%AFb", "/a/b"),
        ("/a%E0%80%AFb", "/a/b"),
        ("/a%E2%80%8Db", "/ab"),
        ("/a%25u002Fb", "/a/b"),
        ("/a%5Eb", "/a^b"),
        ("/auth%2Flogin", "/auth/**"),
    ];
    for (path, rule) in cases {
        let all = route("/**", PUBLIC);
        if rule != "/auth/**" {
            assert_eq!(get(&[Arc::clone(&all)], path), Ok(vec![0]), "{path} alone");
            let equal = [Arc::clone(&all), route(rule, PUBLIC)];
            assert_eq!(
                get(&equal, path),
                Ok(vec![0]),
                "{path} beside an equal {rule}"
            );
        }
        let found = get(&[all, route(rule, ADMIN)], path);
        assert!(
            found.as_ref().is_err_and(|why| why.starts_with("or ")),
            "{path} {rule}: {found:?}"
        );
    }
}

#[test]
fn what_people_need_passes_below_one_rule() {
    let routes = [route("/files/**", AUTHENTICATED), route("/admin/**", ADMIN)];
    for path in [
        "a%2Fb",
        "@scope%2fname",
        "%23name",
        "%3Fname",
        "%25",
        "100%25%20sure",
        "a%3Bb",
        "a;x=%2F",
        "/x",
        "x//y/",
        "a\\b",
        "a^b{c}|d",
        "\u{ff21}\u{ff0f}\u{ff22}",
        "\u{1f469}\u{200d}\u{1f4bb}",
        "%E9",
        "a.",
        "README.MD",
        "caf\u{e9}/na\u{ef}ve",
    ] {
        assert_eq!(
            get(&routes, &format!("/files/{path}")),
            Ok(vec![0]),
            "{path}"
        );
    }
}

#[test]
fn the_last_slash_asks_both_and_case_and_slash_may_lead_nowhere() {
    let routes = [
        route("/**", AUTHENTICATED),
        route("/pay", ADMIN),
        route("/open", AUTHENTICATED),
        changed("/other", |route| route.upstream = 2),
        changed("/get", |route| route.methods = vec![Method::GET]),
    ];
    let cases = [
        ("/pay", Ok(vec![1, 0])),
        ("/pay/", Ok(vec![0, 1])),
        ("/pay/x", Ok(vec![0])),
        ("/open", Ok(vec![2])),
        ("/open/", Ok(vec![0])),
        ("/PAY", Err("or 1")),
        ("/PAY/", Err("or 1")),
        ("/pay%20", Err("or 1")),
        ("/other", Ok(vec![3, 0])),
        ("/other/", Ok(vec![0, 3])),
        ("/", Ok(vec![0])),
    ];
    for (path, wanted) in cases {
        assert_eq!(get(&routes, path), wanted.map_err(str::to_owned), "{path}");
    }
    let exact = [route("/x", PUBLIC), route("/files/{name}", PUBLIC)];
    let cases = [
        ("/x", Ok(vec![0])),
        ("/x/", Err("no route")),
        ("/X", Err("no route")),
        ("/x;v=1", Err("or 0")),
        ("/files/a%20b", Ok(vec![1])),
        ("/files/A", Ok(vec![1])),
        ("/files/a%2Fb", Err("or Nowhere")),
        ("/files/a%23b", Ok(vec![1])),
        ("/files/%23b", Err("or Nowhere")),
        ("/y%2Fz", Err("no route")),
    ];
    for (path, wanted) in cases {
        assert_eq!(get(&exact, path), wanted.map_err(str::to_owned), "{path}");
    }
}

#[test]
fn an_upstream_that_keeps_case_is_taken_at_its_word() {
    let to_second = |pattern: &str, strictness: usize| {
        changed(pattern, |route| {
            route.upstream = 1;
            route.require = require(strictness);
        })
    };
    let routes = [
        to_second("/**", PUBLIC),
        to_second("/admin/**", ADMIN),
        to_second("/Admin/**", AUTHENTICATED),
    ];
    assert_eq!(get(&routes, "/ADMIN/x"), Ok(vec![0]));
    assert_eq!(get(&routes, "/Admin/x"), Ok(vec![2]));
    assert_eq!(get(&routes, "/AUTH/x"), Ok(vec![0]));
    assert_eq!(get(&routes, "/%2561dmin/x"), Err("or 1".to_owned()));
}

#[test]
fn captures_count_where_they_are_used() {
    let role = |pattern: &str| {
        changed(pattern, |route| {
            route.require = Requirement::Rights {
                any_role: vec![RoleTemplate::Resource {
                    resource: Name::parse("list").unwrap(),
                    capture: "id".to_owned(),
                    rank: LevelRank(2),
                    text: "list-{id}-member".into(),
                }],
                all_scopes: Vec::new(),
            };
        })
    };
    let used = [role("/lists/{id}/**")];
    for (path, passes) in [
        ("/lists/42/x", true),
        ("/lists/42/a%2Fb", true),
        ("/lists/A/x", true),
        // Neither reading is an id, so neither yields a role.
        ("/lists/a%20b/x", true),
        ("/lists/4%3A2/x", false),
        ("/lists/42%20/x", false),
        ("/lists/42;1/x", false),
        ("/lists/42./x", false),
        ("/lists/%EF%BC%94/x", false),
        ("/lists/4%2F2/x", false),
        ("/lists//42/x", false),
    ] {
        assert_eq!(get(&used, path).is_ok(), passes, "{path}");
    }
    let unused = [route("/lists/{id}/**", AUTHENTICATED)];
    assert_eq!(get(&unused, "/lists/4%3A2/x"), Ok(vec![0]));
    let signed = [changed("/lists/{id}/**", |route| route.assertion = true)];
    assert_eq!(get(&signed, "/lists/4%3A2/x"), Err("or 0".to_owned()));
    let twice = [role("/lists/{id}/**"), role("/lists/{x}/of/{id}")];
    assert_eq!(get(&twice, "/lists/1%2Fof/1"), Err("or 1".to_owned()));
}

#[test]
fn the_method_is_chosen_last() {
    let get_only = changed("/a/b", |route| route.methods = vec![Method::GET]);
    let routes = [route("/**", PUBLIC), get_only];
    let routes = table(&routes).unwrap();
    let post = |path: &str| asked(&routes, &canonical(path).unwrap().path, &Method::POST);
    assert_eq!(post("/a/b"), Err("[GET]".to_owned()));
    assert_eq!(post("/a/c"), Ok(vec![0]));
    assert_eq!(post("/a/b/"), Ok(vec![0, 1]));
    for path in ["/a/B", "/a%2Fb", "/a/B/"] {
        assert_eq!(post(path), Err("or NoMethod".to_owned()), "{path}");
    }
    let hosted = [
        literal_route("/a", &["h"], &["GET"]),
        literal_route("/a", &[], &["POST"]),
    ];
    let path = canonical("/a").unwrap().path;
    let found = asked(&table(&hosted).unwrap(), &path, &Method::POST);
    assert_eq!(found, Err("[GET]".to_owned()));
}

#[test]
fn the_other_slash_of_a_path_is_asked_though_it_does_not_take_the_method() {
    let get_of = |pattern: &str, strictness: usize, method: Method| {
        changed(pattern, |route| {
            route.methods = vec![method.clone()];
            route.require = require(strictness);
        })
    };
    let all = route("/api/**", AUTHENTICATED);
    let post = |routes: &[Arc<Route>], path: &str| {
        let path = canonical(path).unwrap().path;
        asked(&table(routes).unwrap(), &path, &Method::POST)
    };
    let equal = [Arc::clone(&all), get_of("/api", AUTHENTICATED, Method::GET)];
    let stricter = [Arc::clone(&all), get_of("/api", ADMIN, Method::GET)];
    let many = [
        Arc::clone(&all),
        get_of("/api", ADMIN, Method::GET),
        get_of("/api", PUBLIC, Method::PUT),
    ];
    let alike = [
        Arc::clone(&all),
        get_of("/api", ADMIN, Method::GET),
        get_of("/api", ADMIN, Method::PUT),
    ];
    let overridden = |pattern: &str, methods: &[Method]| {
        changed(pattern, |route| {
            route.methods = methods.to_vec();
            route.pass_headers = vec!["x-http-method-override".parse().unwrap()];
        })
    };
    let overridden = [
        overridden("/api/**", &[]),
        overridden("/api", &[Method::POST]),
    ];
    let cases = [
        (equal.as_slice(), "/api/", Ok(vec![0])),
        (&equal, "/api/x", Ok(vec![0])),
        (&equal, "/api", Err("[GET]")),
        (&equal, "/api%20/", Err("or 0")),
        (&stricter, "/api/", Ok(vec![0, 1])),
        (&many, "/api/", Err("or NoMethod")),
        // They differ in their methods only.
        (&alike, "/api/", Ok(vec![0, 1])),
        // They also differ in the methods that an override may name.
        (&overridden, "/api/", Ok(vec![0, 1])),
        (&overridden, "/api", Ok(vec![1, 0])),
    ];
    for (routes, path, wanted) in cases {
        assert_eq!(post(routes, path), wanted.map_err(str::to_owned), "{path}");
    }
}

#[test]
fn the_gateways_own_paths_are_readings_too() {
    let all = [route("/**", PUBLIC)];
    for path in [
        "//auth/me",
        "/auth%2Flogin",
        "/auth%252Flogin",
        "/auth;/me",
        "/auth./me",
        "/AUTH/me",
        "/Auth",
        "/\\auth\\me",
        "/auth%3Fx",
        "/%EF%BD%81uth/me",
        "/.well-known/jwks.json/",
        "/.Well-Known/jwks.json",
        "/.well-known%2Fjwks.json",
        "/auth%2Fverify/x",
    ] {
        assert_eq!(get(&all, path), Err("or Own".to_owned()), "{path}");
    }
    for path in ["/authx/me", "/x/auth", "/.well-known/other", "/aut"] {
        assert_eq!(get(&all, path), Ok(vec![0]), "{path}");
    }
}

#[test]
fn a_host_in_the_path_is_a_host_of_some_reader() {
    let routes = [
        literal_route("/**", &["a"], &[]),
        literal_route("/x", &[], &[]),
    ];
    let routes = table(&routes).unwrap();
    let choose = |path: &str| {
        let path = canonical(path).unwrap().path;
        routes.choose("a", &path, &Method::GET).is_ok()
    };
    assert!(choose("/y//b/x"));
    assert!(!choose("//b/x"));
    assert!(!choose("//b/y"));
    assert!(choose("//a/y"));
}

/// Readings of a path by a chain of servers. Written independently of `route/readings`: each operation is the habit of
/// one server, and every chain of up to four of them is tried.
mod servers {
    use std::collections::BTreeSet;

    type Habit = fn(&str) -> String;

    const HABITS: &[Habit] = &[
        decode,
        |path| path.replace('\\', "/"),
        |path| {
            let mut path = path.to_owned();
            while path.contains("//") {
                path = path.replace("//", "/");
            }
            path
        },
        |path| {
            let parts = path.split('/');
            let cut = parts.map(|part| part.split(';').next().unwrap_or_default());
            cut.collect::<Vec<_>>().join("/")
        },
        |path| path.trim_end_matches('/').to_owned(),
        |path| format!("{path}/"),
        |path| {
            let parts = path.split('/');
            let cut = parts.map(|part| part.trim_end_matches([' ', '.']));
            cut.collect::<Vec<_>>().join("/")
        },
        |path| path.split(['?', '#']).next().unwrap_or_default().to_owned(),
    ];

    fn decode(path: &str) -> String {
        let bytes = path.as_bytes();
        let (mut decoded, mut place) = (Vec::new(), 0);
        while place < bytes.len() {
            let hex = path
                .get(place + 1..place + 3)
                .filter(|_| bytes[place] == b'%');
            if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                decoded.push(byte);
                place += 3;
            } else {
                decoded.push(bytes[place]);
                place += 1;
            }
        }
        String::from_utf8_lossy(&decoded).into_owned()
    }

    pub(super) fn readings(path: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::from([(path.to_owned(), 0)]);
        for _ in 0..4 {
            for (text, decodings) in all.clone() {
                for (place, habit) in HABITS.iter().enumerate() {
                    let decodings = decodings + usize::from(place == 0);
                    if decodings <= 2 {
                        all.insert((habit(&text), decodings));
                    }
                }
            }
        }
        all.into_iter().map(|(text, _)| text).collect()
    }
}

/// Returns the strictness of a path's best route, by an independent search through a handful of patterns.
fn strictness(routes: &[(String, usize)], path: &str) -> Option<usize> {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let rank = |pattern: &str| -> Option<Vec<u8>> {
        let mut ranks = Vec::new();
        let pieces: Vec<_> = pattern.split('/').skip(1).collect();
        for (place, piece) in pieces.iter().enumerate() {
            if *piece == "**" {
                ranks.push(0);
                return (place < parts.len()).then_some(ranks);
            }
            let part = parts.get(place)?;
            if *piece == "{x}" && !part.is_empty() {
                ranks.push(1);
            } else if piece == part {
                ranks.push(2);
            } else {
                return None;
            }
        }
        (pieces.len() == parts.len()).then_some(ranks)
    };
    let found = routes
        .iter()
        .filter_map(|(pattern, strictness)| Some((rank(pattern)?, *strictness)));
    found.max().map(|(_, strictness)| strictness)
}

/// Checks that no reading of an allowed path leads to a stricter route.
fn check_against_servers(patterns: &[(String, usize)], sent: &str) -> Result<(), String> {
    let routes: Vec<_> = patterns
        .iter()
        .map(|(pattern, strictness)| route(pattern, *strictness))
        .collect();
    let (Ok(table), Ok(target)) = (table(&routes), canonical(sent)) else {
        return Ok(());
    };
    let Ok(asked) = asked(&table, &target.path, &Method::GET) else {
        return Ok(());
    };
    let allowed = asked.iter().filter_map(|place| patterns.get(*place));
    let allowed = allowed.map(|(_, strictness)| *strictness).max();
    let lower: Vec<_> = patterns
        .iter()
        .map(|(pattern, strictness)| (pattern.to_lowercase(), *strictness))
        .collect();
    // A server receives the canonical form: by RFC 3986 section 6.2.2.2, escapes of unreserved characters have the same
    // meaning.
    for reading in servers::readings(target.path.as_str()) {
        for (table, reading) in [
            (patterns, reading.clone()),
            (&lower, reading.to_lowercase()),
        ] {
            let found = strictness(table, &reading);
            if allowed < found {
                return Err(format!(
                    "{sent} is asked {asked:?} and can be read as {reading}"
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn an_escape_of_an_unreserved_character_is_that_character() {
    let patterns = [("/**", AUTHENTICATED), ("/a/**", PUBLIC)];
    let patterns = patterns.map(|(pattern, strictness)| (pattern.to_owned(), strictness));
    assert_eq!(check_against_servers(&patterns, "/%61/a"), Ok(()));
}

#[test]
fn no_byte_at_any_place_steps_around_a_rule() {
    let patterns = [("/**", PUBLIC), ("/ad/min", ADMIN), ("/ad/min/**", ADMIN)];
    let patterns = patterns.map(|(pattern, strictness)| (pattern.to_owned(), strictness));
    for byte in 0..=127_u8 {
        let spellings = [
            char::from(byte).to_string(),
            format!("%{byte:02x}"),
            format!("%25{byte:02X}"),
        ];
        for spelling in spellings.iter().filter(|spelling| *spelling != "?") {
            for place in 1..="/ad/min/x".len() {
                let (before, behind) = "/ad/min/x".split_at(place);
                for cut in [0, 1] {
                    let behind = behind.get(cut..).unwrap_or_default();
                    check_against_servers(&patterns, &format!("{before}{spelling}{behind}"))
                        .unwrap();
                }
            }
        }
    }
}

#[test]
fn no_spelling_of_a_literal_steps_around_its_rule() {
    for byte in (0x21..0x7f_u8).filter(|byte| !b"/\\;?#%*{}.".contains(byte)) {
        let written = if may_stand_raw(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        };
        for (before, behind) in [("", "min"), ("ad", "min"), ("ad", "")] {
            let rule = format!("/{before}{written}{behind}/**");
            let routes = [route("/**", AUTHENTICATED), route(&rule, ADMIN)];
            assert_eq!(
                get(&routes, &format!("/{before}{written}{behind}/x")),
                Ok(vec![1]),
                "{rule}"
            );
            for spelling in [
                char::from(byte).to_string(),
                format!("%{byte:02x}"),
                format!("%25{byte:02x}"),
            ] {
                let path = format!("/{before}{spelling}{behind}/x");
                assert_ne!(get(&routes, &path), Ok(vec![0]), "{path} under {rule}");
            }
        }
    }
}

fn a_table() -> impl Strategy<Value = Vec<(String, usize)>> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("A"), Just("{x}"), Just("@")];
    let pattern =
        (proptest::collection::vec(segment, 0..3), any::<bool>()).prop_map(|(segments, tail)| {
            let tail = if tail || segments.is_empty() {
                "/**"
            } else {
                ""
            };
            let path = segments
                .iter()
                .fold(String::new(), |path, segment| format!("{path}/{segment}"));
            format!("{path}{tail}")
        });
    proptest::collection::vec((pattern, 0..3_usize), 1..5)
}

fn a_path() -> impl Strategy<Value = String> {
    let pieces = [
        "/", "/", "/", "a", "b", "A", "@", "%40", "%61", "%41", "%2F", "%2f", "%252F", "%5C", "\\",
        ";", "%3B", ";x", "%3F", "%23", "%20", "%25", "%2540", "%2561", ".", "//", "%C3%A9", "%E9",
    ];
    let piece = proptest::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 1..7).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_reading_of_an_allowed_path_is_decided_more_strictly(patterns in a_table(), path in a_path()) {
        prop_assert_eq!(check_against_servers(&patterns, &path), Ok(()));
    }
}

/// A path that passes is its own canonical form, no server finds a dot segment in it, and none reads it as one that is
/// decided more strictly. The first byte chooses the routes: `0`, `1` or `2`.
#[test]
fn fuzz_path() {
    const TABLES: &[&[(&str, usize)]] = &[
        &[("/**", PUBLIC), ("/ad/min", ADMIN), ("/ad/min/**", ADMIN)],
        &[
            ("/**", AUTHENTICATED),
            ("/a/{x}", PUBLIC),
            ("/a/b", ADMIN),
            ("/@/**", ADMIN),
        ],
        &[
            ("/a/**", PUBLIC),
            ("/a/{x}/c", ADMIN),
            ("/b", AUTHENTICATED),
        ],
    ];
    doorward_fuzz::check("path", |bytes| {
        let Some((table, sent)) = bytes.split_first() else {
            return;
        };
        let Ok(target) = canonical(sent) else {
            return;
        };
        let path = target.path.as_str();
        let again = canonical(path).unwrap();
        assert_eq!((again.path.as_str(), again.query), (path, None));
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>?`".contains(&byte);
        assert!(path.starts_with('/') && path.bytes().all(fits), "{path}");
        if let Some(query) = &target.query {
            let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte);
            assert!(query.bytes().all(fits), "{query}");
            let whole = format!("{path}?{query}");
            assert_eq!(canonical(&whole).as_ref(), Ok(&target));
        }
        // The servers' habits are tried in every order, and a long path has too many readings for that.
        if 48 < path.len() {
            return;
        }
        for reading in servers::readings(path) {
            let is_dots = |part: &str| matches!(part, "." | "..");
            assert!(!reading.split('/').any(is_dots), "{path} as {reading}");
        }
        let table = TABLES[usize::from(*table) % TABLES.len()];
        let patterns: Vec<_> = table
            .iter()
            .map(|(pattern, strictness)| ((*pattern).to_owned(), *strictness))
            .collect();
        check_against_servers(&patterns, path).unwrap();
    });
}
