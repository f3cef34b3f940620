//! GET /me, GET /methods.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::account::roles::RoleFilter;
use crate::config::Registration;
use crate::model::access::Scope;
use crate::model::identity::Principal;
use crate::web::answer::{Json, List};
use crate::web::api::session::PASSWORD_METHOD;
use crate::web::caller::{Anybody, Recognised};

#[derive(Serialize)]
pub(in crate::web) struct MeAnswer {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    roles: Vec<String>,
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings_id: Option<String>,
    resources: BTreeMap<String, String>,
    method: &'static str,
}

/// Who the caller is, as recognised for this request. A foreign identity has no account here.
pub(in crate::web) async fn show(caller: Recognised) -> Json<MeAnswer> {
    let identity = &caller.identity;
    let account = match &identity.principal {
        Principal::Own { account, .. } => Some(account),
        Principal::Foreign { .. } => None,
    };
    let scopes = identity.scopes.iter().map(Scope::as_str);
    Json(MeAnswer {
        uid: identity.subject().to_owned(),
        account_id: account.map(|account| account.account_id.as_str().to_owned()),
        username: identity.username().map(str::to_owned),
        roles: caller
            .accounts()
            .roles_of_caller(identity, &RoleFilter::default()),
        scopes: scopes.map(str::to_owned).collect(),
        settings_id: account.map(|account| account.settings_id.as_str().to_owned()),
        resources: caller.accounts().resources().clone(),
        method: identity.method.as_str(),
    })
}

#[derive(Serialize)]
pub(in crate::web) struct MethodAnswer {
    name: &'static str,
}

#[derive(Serialize)]
pub(in crate::web) struct Policies {
    registration: &'static str,
    password_length_min: usize,
    password_classes_min: usize,
}

#[derive(Serialize)]
pub(in crate::web) struct MethodsAnswer {
    #[serde(flatten)]
    methods: List<MethodAnswer>,
    policies: Policies,
}

/// Which ways to log in and register are open.
pub(in crate::web) async fn methods(Anybody(scope): Anybody) -> Json<MethodsAnswer> {
    let settings = scope.snapshot.accounts.settings();
    Json(MethodsAnswer {
        methods: List::whole(vec![MethodAnswer {
            name: PASSWORD_METHOD,
        }]),
        policies: Policies {
            registration: match settings.registration {
                Registration::Open => "open",
                Registration::Invite => "invite",
                Registration::Closed => "closed",
            },
            password_length_min: settings.password_length_min,
            password_classes_min: settings.password_classes_min,
        },
    })
}
