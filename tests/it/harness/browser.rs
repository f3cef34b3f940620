//! A real browser: headless Chromium, driven by chromedriver over HTTP (W3C, `WebDriver`).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{free_port, wait_for};

/// A browser with a profile of its own, closed when this is dropped.
pub(crate) struct Browser {
    driver: Child,
    agent: ureq::Agent,
    /// The URL of the driver's session.
    session: String,
    profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser, with or without JavaScript.
    pub(crate) fn start(javascript: bool) -> Self {
        Self::start_with(javascript, &[])
    }

    /// Starts a browser with JavaScript that resolves all names under `.test` to this machine and trusts this
    /// authority.
    ///
    /// `authority`: the digest of its public key.
    pub(crate) fn start_trusting(authority: &str) -> Self {
        let names = "--host-resolver-rules=MAP *.test 127.0.0.1".to_owned();
        let authority = format!("--ignore-certificate-errors-spki-list={authority}");
        Self::start_with(true, &[names, authority, "--disable-quic".to_owned()])
    }

    fn start_with(javascript: bool, more: &[String]) -> Self {
        let chromium = installed(&["chromium", "chromium-browser", "google-chrome"]);
        let chromedriver = installed(&["chromedriver"]);
        let profile = tempfile::tempdir().unwrap();
        let port = free_port();
        let driver = Command::new(chromedriver)
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_mins(1)))
            .build();
        let base = format!("http://127.0.0.1:{port}");
        let mut browser = Self {
            driver,
            agent: config.into(),
            session: base.clone(),
            profile,
        };
        wait_for("chromedriver", || {
            let answer = browser.agent.get(format!("{base}/status")).call().ok()?;
            (answer.status() == 200).then_some(())
        });
        let content = if javascript { 1 } else { 2 };
        let profile = browser.profile.path().join("profile");
        let own = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let args: Vec<_> = own
            .into_iter()
            .chain(more.iter().map(String::as_str))
            .collect();
        let options = json!({
            "binary": chromium,
            "args": args,
            "prefs": {"profile": {"managed_default_content_settings": {"javascript": content}}},
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.post("/session", &wanted);
        let id = made["sessionId"]
            .as_str()
            .unwrap_or_else(|| panic!("no session: {made}"));
        browser.session = format!("{base}/session/{id}");
        browser
    }

    /// Opens a URL and waits until it is loaded.
    pub(crate) fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    pub(crate) fn url(&self) -> String {
        self.get("/url").as_str().unwrap().to_owned()
    }

    pub(crate) fn title(&self) -> String {
        self.get("/title").as_str().unwrap().to_owned()
    }

    /// Returns the source of the page as the browser sees it.
    pub(crate) fn source(&self) -> String {
        self.get("/source").as_str().unwrap().to_owned()
    }

    /// Returns all cookies of the page.
    pub(crate) fn cookies(&self) -> Vec<Value> {
        self.get("/cookie").as_array().unwrap().clone()
    }

    /// Runs the body of an async function in the page, and returns its result.
    #[track_caller]
    pub(crate) fn run(&self, body: &str) -> Value {
        let script = format!("return (async () => {{ {body} }})()");
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Opens another tab, and switches to it.
    pub(crate) fn new_tab(&self) -> String {
        let tab = self.post("/window/new", &json!({"type": "tab"}));
        let tab = tab["handle"].as_str().unwrap().to_owned();
        self.turn_to(&tab);
        tab
    }

    /// Switches to a tab.
    pub(crate) fn turn_to(&self, tab: &str) {
        self.post("/window", &json!({"handle": tab}));
    }

    /// Types into the field of that name.
    #[track_caller]
    pub(crate) fn fill(&self, name: &str, text: &str) {
        let element = self.element(&format!("input[name={name}]"));
        self.post(&format!("{element}/value"), &json!({"text": text}));
    }

    /// Replaces the text of the first field that the selector finds.
    #[track_caller]
    pub(crate) fn type_over(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("{element}/clear"), &json!({}));
        self.post(&format!("{element}/value"), &json!({"text": text}));
    }

    /// Returns the number of elements that the selector finds.
    pub(crate) fn count(&self, selector: &str) -> usize {
        let wanted = json!({"using": "css selector", "value": selector});
        self.post("/elements", &wanted).as_array().unwrap().len()
    }

    /// Returns the browser's messages so far: script errors, and what a policy has blocked.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    /// Clicks on the first element that the selector finds.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("{element}/click"), &json!({}));
    }

    /// Returns the visible text of the first element that the selector finds.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        // A script may replace the element between finding and reading it.
        wait_for(&format!("the text of {selector}"), || {
            let element = self.element(selector);
            let text = self.try_get(&format!("{element}/text")).ok()?;
            Some(text.as_str().unwrap().to_owned())
        })
    }

    /// Returns the value of the field of that name.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let element = self.element(&format!("input[name={name}]"));
        self.get(&format!("{element}/property/value"))
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns a computed style property.
    #[track_caller]
    pub(crate) fn style(&self, selector: &str, property: &str) -> String {
        let element = self.element(selector);
        self.get(&format!("{element}/css/{property}"))
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until the browser is at a URL with this prefix.
    #[track_caller]
    pub(crate) fn arrives(&self, url: &str) {
        wait_for(
            &format!("the browser at {url}, it is at {}", self.url()),
            || self.url().starts_with(url).then_some(()),
        );
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let find = || {
            let found = self.try_post(
                "/element",
                &json!({"using": "css selector", "value": selector}),
            );
            let found = found.as_object()?.values().next()?.as_str()?.to_owned();
            // The first member of an error is not an id; ids have no spaces.
            (!found.contains(' ')).then_some(found)
        };
        let id = wait_for(&format!("{selector} in {}", self.source()), find);
        format!("/element/{id}")
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        match self.try_get(path) {
            Ok(value) => value,
            Err(json) => panic!("GET {path}: {json}"),
        }
    }

    /// Returns the value of a 200, or the whole body of another answer.
    fn try_get(&self, path: &str) -> Result<Value, Value> {
        let mut answer = self
            .agent
            .get(format!("{}{path}", self.session))
            .call()
            .unwrap();
        let json: Value = answer.body_mut().read_json().unwrap();
        if answer.status() == 200 {
            Ok(json["value"].clone())
        } else {
            Err(json)
        }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let value = self.try_post(path, body);
        assert!(value.get("error").is_none(), "POST {path}: {value}");
        value
    }

    fn try_post(&self, path: &str, body: &Value) -> Value {
        let mut answer = self
            .agent
            .post(format!("{}{path}", self.session))
            .send_json(body)
            .unwrap();
        let json: Value = answer.body_mut().read_json().unwrap();
        json["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closing the session ends Chromium; the driver alone would leave it behind.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Returns the first of these commands that is installed.
fn installed(names: &[&str]) -> String {
    let folders = ["/usr/bin", "/usr/local/bin", "/usr/lib/chromium"];
    let paths = names
        .iter()
        .flat_map(|name| folders.map(|folder| format!("{folder}/{name}")));
    let mut found = paths.filter(|path| Path::new(path).exists());
    found.next().unwrap_or_else(|| {
        panic!(
            "{} is not installed: apt-get install chromium chromium-driver, as scripts/test does",
            names[0]
        )
    })
}
