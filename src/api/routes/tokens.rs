//! Tokens.

use crate::api::Problem;
use crate::api::access::Rule;
use crate::api::audited::Change;
use crate::api::extract::{Json, Segment};
use crate::api::lines::NewTokenOrder;
use crate::api::peer::Caller;
use crate::api::state::{Api, Shared, Work};
use crate::catalog::{Added, TokenGrant};
use crate::report::{NewToken, TokenLine};
use crate::units::Name;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;

/// All tokens, also those that count no more. No secret is told.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens",
    responses((status = 200, description = "Tokens.", body = [TokenLine])))]
pub(super) async fn list(State(api): State<Api>) -> Result<axum::Json<Vec<TokenLine>>, Problem> {
    let list = |shared: &Shared| {
        let now = Timestamp::now();
        let tokens = shared.daemon.history().tokens()?;
        Ok(tokens.into_iter().map(|token| TokenLine::new(token, now)).collect())
    };
    api.work(Work::Light, list).await.map(axum::Json)
}

/// Makes a token. It is told once.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewTokenOrder,
    responses((status = 201, description = "The token.", body = NewToken)))]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Json(order): Json<NewTokenOrder>,
) -> Result<(StatusCode, axum::Json<NewToken>), Problem> {
    let now = Timestamp::now();
    if order.scopes.is_empty() {
        return Err(Problem::invalid("a token needs at least one scope"));
    }
    if order.machines.as_ref().is_some_and(std::collections::BTreeSet::is_empty) {
        return Err(Problem::invalid("name at least one machine, or leave `machines` out"));
    }
    if order.expires.is_some_and(|end| end <= now) {
        return Err(Problem::invalid("`expires` is in the past"));
    }
    let scopes: Vec<&str> = order.scopes.iter().map(|scope| scope.word()).collect();
    let subject = format!("token {} ({})", order.name, scopes.join(", "));
    let change = Change::new(&caller, &rule, subject);
    let add = move |shared: &Shared| {
        let NewTokenOrder { name, scopes, machines, expires } = order;
        let grant = TokenGrant { scopes, machines, created: now, expires };
        match shared.daemon.history().add_token(&name, &grant)? {
            Added::Token(secret) => Ok(NewToken { token: secret.reveal().to_owned(), name }),
            Added::NameTaken => {
                let detail = format!("there is a token {name}; revoke it, or take another name");
                Err(Problem::new(StatusCode::CONFLICT, detail))
            }
            Added::TooMany => {
                let detail = "there are too many tokens; their names can be used again once they \
                              are revoked";
                Err(Problem::new(StatusCode::CONFLICT, detail))
            }
        }
    };
    let token = change.carry_out(&api, Work::Light, add, |_| None).await?;
    Ok((StatusCode::CREATED, axum::Json(token)))
}

/// Revokes a token: from then on it is refused.
#[utoipa::path(delete, path = "/v1/tokens/{name}", tag = "tokens",
    params(("name" = String, Path, description = "Its name.")),
    responses((status = 204, description = "It is revoked.")))]
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Extension(rule): Extension<Rule>,
    Segment(name): Segment,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::not_found("there is no such token, or it was revoked before");
    let Ok(name) = name.parse::<Name>() else { return Err(unknown()) };
    let change = Change::new(&caller, &rule, format!("token {name}"));
    let revoke = move |shared: &Shared| {
        let was_there = shared.daemon.history().revoke_token(&name, Timestamp::now())?;
        if was_there { Ok(()) } else { Err(unknown()) }
    };
    change.carry_out(&api, Work::Light, revoke, |()| None).await?;
    Ok(StatusCode::NO_CONTENT)
}
