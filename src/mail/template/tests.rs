//! The built-in texts of mails, and their replacement.

use super::*;
use crate::config::{MailLimits, MailTransport};

fn settings(directory: Option<&Path>) -> MailSettings {
    MailSettings {
        transport: MailTransport::Stdout,
        from: "door@door.test".to_owned(),
        confirm_link: "{public_url}/auth/confirm?token={token}".to_owned(),
        reset_link: "https://app.test/#reset&a=<1>;{token}".to_owned(),
        templates: directory.map(Path::to_owned),
        limits: MailLimits {
            per_address_per_hour: 3,
            per_network_per_hour: 10,
            per_hour: 1000,
        },
    }
}

fn templates() -> Templates {
    Templates::new(&settings(None), "https://door.test").unwrap()
}

fn token() -> Secret {
    Secret::new("Abc-_token".to_owned())
}

fn name() -> String {
    "anna&co".to_owned()
}

fn new_login(failures: u32) -> Mail {
    Mail::NewLogin {
        username: name(),
        network: "2001:db8::/64".to_owned(),
        failures,
    }
}

/// Asserts that a mail has this subject, and these texts in its two parts.
#[track_caller]
fn has(mail: &Mail, subject: &str, part: &str, html_part: &str) {
    let text = templates().render(mail).unwrap();
    assert_eq!(text.subject, subject);
    assert!(text.body.contains(part), "{}", *text.body);
    assert!(text.body.contains("https://door.test") || text.body.contains("app.test"));
    assert!(text.body.ends_with(".\n") && !text.body.contains('{'));
    let html = text.html.unwrap();
    assert!(html.contains(html_part), "{}", *html);
    assert!(html.ends_with("</html>\n") && !html.contains('{'));
}

#[test]
fn mails_with_a_token_have_its_link() {
    let confirm = "\nhttps://door.test/auth/confirm?token=Abc-_token\n";
    let confirm_html = "https:&#x2f;&#x2f;door.test&#x2f;auth&#x2f;confirm?token=Abc-_token\"";
    let mail = Mail::ConfirmNew { token: token() };
    has(&mail, "Confirm your registration", confirm, confirm_html);
    let mail = Mail::Invitation {
        token: token(),
        username: name(),
    };
    let subject = "An account has been created for you";
    has(&mail, subject, confirm, confirm_html);
    has(&mail, subject, "\"anna&co\"", "<b>anna&amp;co</b>");
    let mail = Mail::ChangeIdentity {
        token: token(),
        username: name(),
    };
    has(&mail, "Confirm your new address", confirm, confirm_html);
    let mail = Mail::PasswordReset {
        token: token(),
        username: name(),
    };
    let link = "\nhttps://app.test/#reset&a=<1>;Abc-_token\n";
    let link_html = "#reset&amp;a=&lt;1&gt;;Abc-_token\"";
    has(&mail, "Set a new password", link, link_html);
}

#[test]
fn notices_say_what_they_are_about() {
    let mail = Mail::IdentityTaken;
    let (url, url_html) = ("https://door.test", "https:&#x2f;&#x2f;door.test");
    has(&mail, "You already have an account", url, url_html);
    let cases = [
        (
            Mail::UsernameTaken { username: name() },
            "Choose another user name",
        ),
        (
            Mail::PasswordChanged { username: name() },
            "Your password was changed",
        ),
        (
            Mail::IdentityChanging { username: name() },
            "A change of your address was requested",
        ),
        (
            Mail::IdentityChanged { username: name() },
            "Your address was changed",
        ),
        (new_login(0), "A login to your account"),
    ];
    for (mail, subject) in cases {
        has(&mail, subject, "\"anna&co\"", "<b>anna&amp;co</b>");
    }
    let subject = "A login to your account";
    let (text, html) = (
        "\n2001:db8::/64\n\nThis is the first",
        "2001:db8::&#x2f;64.</p>",
    );
    has(&new_login(0), subject, text, html);
    let (text, html) = (
        "entered 7 times in a row.\n\nIf it",
        "entered 7 times in a row.</p>",
    );
    has(&new_login(7), subject, text, html);
}

#[test]
fn only_those_that_need_it_hold_a_token() {
    for mail in [
        Mail::IdentityTaken,
        Mail::UsernameTaken { username: name() },
        Mail::PasswordChanged { username: name() },
        new_login(7),
        Mail::IdentityChanging { username: name() },
        Mail::IdentityChanged { username: name() },
    ] {
        let text = templates().render(&mail).unwrap();
        assert!(!text.body.contains("token"), "{}", *text.body);
        assert!(!text.html.unwrap().contains("token"));
    }
}

#[test]
fn lines_of_a_template_are_short() {
    for builtin in BUILTIN {
        for line in builtin.text.lines().chain(builtin.html.lines()) {
            assert!(
                line.len() <= 78 && line.is_ascii(),
                "{}: {line}",
                builtin.name
            );
        }
    }
}

/// Loads the templates with a directory of these files.
fn replaced(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
    let directory = tempfile::tempdir().unwrap();
    for (file, text) in files {
        std::fs::write(directory.path().join(file), text).unwrap();
    }
    Templates::new(&settings(Some(directory.path())), "https://door.test")
}

#[test]
fn an_operators_text_takes_the_place_of_the_built_in_one() {
    let text = "Subject: Gr\u{fc}\u{df}e\r\n\r\nHier:\r\n{{ link }}\r\n";
    let html = "<p>{{ username }} <a href=\"{{ link }}\">hier</a>";
    let confirm = Mail::ConfirmNew { token: token() };
    let both = replaced(&[("confirm_new.txt", text), ("password_reset.html", html)]).unwrap();
    let rendered = both.render(&confirm).unwrap();
    assert_eq!(rendered.subject, "Gr\u{fc}\u{df}e");
    let link = "https://door.test/auth/confirm?token=Abc-_token";
    assert_eq!(*rendered.body, format!("Hier:\n{link}\n"));
    assert!(
        rendered.html.is_none(),
        "a built-in HTML would say something else"
    );
    let reset = Mail::PasswordReset {
        token: token(),
        username: "<anna>".to_owned(),
    };
    let rendered = both.render(&reset).unwrap();
    assert_eq!(rendered.subject, "Set a new password");
    assert!(rendered.html.unwrap().starts_with("<p>&lt;anna&gt; <a "));
    let untouched = both.render(&Mail::IdentityTaken).unwrap();
    assert!(untouched.html.is_some());
}

#[test]
fn a_replacement_that_would_fail_is_refused_when_it_is_read() {
    let link = "{{ link }}";
    let cases: [(&str, &str, &str); 10] = [
        (
            "confirm_new.txt",
            "Subject: x\n\nno link\n",
            "line of its own",
        ),
        (
            "confirm_new.txt",
            "Subject: x\n\n<{{ link }}>\n",
            "line of its own",
        ),
        ("confirm_new.html", "<p>no link", "{{ link }}"),
        ("confirm_new.txt", link, "Subject"),
        ("confirm_new.txt", "Subject: \n\n{{ link }}\n", "Subject"),
        ("confirm_new.txt", "Subject: x\n\n{{ link }\n", "a template"),
        (
            "confirm_new.txt",
            "Subject: x\n\n{{ link }}\n{{ name }}\n",
            "line 4",
        ),
        ("identity_taken.txt", "Subject: x\n\n{{ link }}\n", "line 3"),
        (
            "confirm-new.txt",
            "Subject: x\n\n{{ link }}\n",
            "the name of a mail",
        ),
        ("confirm_new.html", &"x".repeat(17_000), "16 KiB"),
    ];
    for (file, text, expected) in cases {
        let error = replaced(&[(file, text)]).err().unwrap();
        let said = &error.expected;
        assert!(
            said.starts_with(file) && said.contains(expected),
            "{file}: {said}"
        );
    }
    let missing = settings(Some(Path::new("/nonexistent/mails")));
    let error = Templates::new(&missing, "https://door.test").err().unwrap();
    assert!(error.expected.contains("/nonexistent/mails"));
    assert!(replaced(&[("notes.md", "anything"), ("logo.png", "x")]).is_ok());
}
