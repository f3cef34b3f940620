//! Warnings about settings that are fine on a private machine but not on a public one.

use crate::config::Config;
use crate::config::account::Registration;
use crate::config::listen::Listen;
use crate::config::mail::MailTransport;
use crate::config::problem::{ConfigProblems, ValueOrigin, ValuePlace};
use crate::model::access::{Requirement, Scope};
use crate::model::route::UpstreamAddress;

/// Warns about every such setting of a checked configuration.
pub(super) fn warn(config: &Config, problems: &ConfigProblems) {
    let note = |key: &str, expected: &str| {
        problems.warn(&ValuePlace::new(key, ValueOrigin::Default), expected);
    };
    if config.routes.is_empty() {
        note(
            "route",
            "at least one route: requests that no route matches get 404",
        );
    }
    listen(&config.listen, &note);
    if config.listen.public_url.is_loopback {
        return;
    }
    if config.listen.public_url.scheme == "http" {
        note(
            "listen.public_url",
            "an https URL: over plain http the session cookie is sent without Secure",
        );
    }
    for (index, upstream) in config.upstreams.iter().enumerate() {
        if upstream.addresses.contains(&UpstreamAddress::BuiltinEcho) {
            note(
                &format!("upstream[{index}].addresses"),
                "the address of a service: builtin:echo is for trying things out, and public_url is not on loopback",
            );
        }
    }
    if config.account.registration == Registration::Open {
        note(
            "account.registration",
            "\"invite\" or \"closed\": with \"open\" everyone who reaches public_url can register",
        );
    }
    scopes(config, &note);
    mail(config, &note);
}

/// Warns if the gateway does not know the client addresses, or the name under which callers reach it.
fn listen(listen: &Listen, note: &dyn Fn(&str, &str)) {
    let host = listen.public_url.host();
    if !listen.auth_hosts.is_empty() && !listen.auth_hosts.iter().any(|have| have == host) {
        note(
            "listen.auth_hosts",
            "the host of public_url in the list: links in mails lead there, and without it no endpoints are served on that host",
        );
    }
    let is_public = !listen.public_url.is_loopback
        || listen
            .addresses
            .iter()
            .any(|address| !address.ip().is_loopback());
    if is_public && listen.trusted_proxies.is_empty() {
        note(
            "listen.trusted_proxies",
            "the network of the proxy in front: without it all callers share one address, by which failed logins and \
             mails are limited",
        );
    }
}

/// Warns about scopes that protect nothing: every login holds all declared scopes.
fn scopes(config: &Config, note: &dyn Fn(&str, &str)) {
    let mut named: Vec<&Scope> = Vec::new();
    for (index, route) in config.routes.iter().enumerate() {
        let Requirement::Rights {
            any_role,
            all_scopes,
        } = &route.require
        else {
            continue;
        };
        if any_role.is_empty() {
            note(
                &format!("route[{index}].require"),
                "any_role as well as all_scopes: every login has all declared scopes, so scopes limit API keys only",
            );
        }
        named.extend(all_scopes);
    }
    let is_open = |scope: &&Scope| !scope.as_str().starts_with("auth:") && !named.contains(scope);
    if config.roles.scopes.iter().any(|scope| is_open(&scope)) {
        note(
            "roles.scopes",
            "only scopes that routes require: every login has all declared ones, and they are sent to every upstream",
        );
    }
}

fn mail(config: &Config, note: &dyn Fn(&str, &str)) {
    match config.mail.transport {
        MailTransport::File(_) | MailTransport::Stdout => note(
            "mail.transport",
            "a transport that delivers mails: file and stdout are for trying things out, and public_url is not on \
             loopback",
        ),
        MailTransport::Sendmail(_) | MailTransport::Smtp(_) => {
            if config.mail.from.contains("@localhost") {
                note(
                    "mail.from",
                    "a sender with a real domain: mail servers refuse mails from localhost",
                );
            }
        }
    }
}
