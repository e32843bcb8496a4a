//! What every request goes through: who asks, and may they.

use super::Problem;
use super::access::{Access, Rule};
use super::audited::refuse;
use super::peer::{Caller, Peer};
use super::state::{Api, Work};
use crate::audit::{AuditEntry, AuditOutcome};
use crate::catalog::TokenSecret;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use std::net::IpAddr;
use std::time::Instant;

/// Lets a request through to the handler of `rule`, if its caller may do that.
pub(super) async fn gate(
    State((api, rule)): State<(Api, Rule)>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return Problem::internal("the other end is not known").into_response();
    };
    if rule.access != Access::Open {
        match admit(&api, &rule, peer, request.headers()).await {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(rule);
            }
            Err(problem) => return problem.into_response(),
        }
    }
    match tokio::time::timeout(rule.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("it took longer than {} s; try again later", rule.time.as_secs());
            Problem::unavailable(detail).into_response()
        }
    }
}

async fn admit(api: &Api, rule: &Rule, peer: Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    let caller = match identify(api, peer, headers).await {
        Ok(caller) => caller,
        Err((who, problem)) => {
            if problem.status != StatusCode::UNAUTHORIZED {
                return Err(problem);
            }
            let problem = refuse(api, peer, entry(&who, peer, rule, &problem), problem).await;
            let wait = api.slowdown.failed(peer.key(), Instant::now());
            tokio::time::sleep(wait).await;
            return Err(problem);
        }
    };
    match check(rule, &caller) {
        Ok(()) => Ok(caller),
        Err(problem) => {
            let entry = entry(&caller.who, peer, rule, &problem);
            Err(refuse(api, peer, entry, problem).await)
        }
    }
}

fn entry(who: &str, peer: Peer, rule: &Rule, problem: &Problem) -> AuditEntry {
    let mut entry = AuditEntry::new(who, rule.what(), AuditOutcome::Refused);
    entry.peer = Some(peer.text());
    entry.detail = Some(problem.detail.clone());
    entry
}

/// Who asks; or who that is for the audit log, and why they are not let in.
async fn identify(api: &Api, peer: Peer, headers: &HeaderMap) -> Result<Caller, (String, Problem)> {
    let unauthorized =
        |who: String, detail: &str| (who, Problem::new(StatusCode::UNAUTHORIZED, detail));
    let nobody = match peer {
        Peer::Socket { uid, .. } => format!("uid:{uid}"),
        Peer::Tcp { .. } => "nobody".to_owned(),
    };
    let Some(shown) = headers.get(header::AUTHORIZATION) else {
        return match peer {
            Peer::Socket { is_trusted: true, .. } => Ok(Caller { who: nobody, peer, token: None }),
            _ => {
                Err(unauthorized(nobody, "a token is needed; make one with `afterimage token add`"))
            }
        };
    };
    let secret = shown.to_str().ok().and_then(bearer).and_then(TokenSecret::parse);
    let Some(secret) = secret else {
        return Err(unauthorized(nobody, "this is no token; send `Authorization: Bearer aft_…`"));
    };
    let found = api
        .work(Work::Light, move |shared| {
            let token = shared.daemon.history().find_token(&secret)?;
            let now = Timestamp::now();
            if let Some(token) = token.as_ref().filter(|token| token.is_valid(now)) {
                // Whoever has a good token is let in, whether that can be noted or not.
                let _ = shared.daemon.history().note_token_used(token, now);
            }
            Ok((token, now))
        })
        .await;
    match found {
        Ok((Some(token), now)) if token.is_valid(now) => {
            Ok(Caller { who: format!("token:{}", token.name), peer, token: Some(token) })
        }
        Ok((Some(token), _)) => {
            let what = if token.revoked.is_some() { "was revoked" } else { "has expired" };
            let detail = format!("this token {what}; make one with `afterimage token add`");
            Err(unauthorized(format!("token:{}", token.name), &detail))
        }
        Ok((None, _)) => Err(unauthorized(nobody, "this token is not known here")),
        Err(problem) => Err((nobody, problem)),
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check(rule: &Rule, caller: &Caller) -> Result<(), Problem> {
    if let Access::Needs(scope) = rule.access
        && !caller.may(scope)
    {
        return Err(Problem::forbidden(format!("{} needs the scope {scope}", rule.what())));
    }
    if rule.whole_site && caller.is_restricted() {
        let what = rule.what();
        let detail = format!("{what} is about the whole site, and this token for some machines");
        return Err(Problem::forbidden(detail));
    }
    Ok(())
}

/// At a loopback address only names of this host are answered to: a page in a browser that has its
/// own name point there must get nothing.
pub(super) async fn check_host(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let is_fine = match peer {
        Some(Peer::Tcp { is_loopback: true, .. }) => is_own_name(request.headers()),
        Some(Peer::Tcp { .. }) => request.headers().contains_key(header::HOST),
        Some(Peer::Socket { .. }) => true,
        None => false,
    };
    if is_fine {
        return next.run(request).await;
    }
    let detail = "this server is `localhost`, and answers to no other name";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, detail).into_response()
}

fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let authority = host.parse::<axum::http::uri::Authority>();
    authority.is_ok_and(|authority| {
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_address = name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
        is_address || name.eq_ignore_ascii_case("localhost")
    })
}

/// Tells browsers to do nothing with an answer.
pub(super) async fn secure_headers(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered_to() {
        let check = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            is_own_name(&headers)
        };
        for host in ["localhost", "LOCALHOST:9441", "127.0.0.1:1", "127.8.9.1", "[::1]:9441"] {
            assert!(check(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "192.0.2.1", "127.0.0.1.evil"] {
            assert!(!check(host), "{host}");
        }
        assert!(!is_own_name(&HeaderMap::new()));
    }
}
