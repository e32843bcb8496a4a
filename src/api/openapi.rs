//! The OpenAPI document, from the same table that the server serves.

use super::access::{Access, Rule};
use super::routes;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, ContentBuilder, Info, OpenApi, OpenApiBuilder};
use utoipa::openapi::{Ref, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

const SCHEME: &str = "token";

/// An empty document, with what is common to all routes.
pub(super) fn begin() -> OpenApi {
    let mut info = Info::new("afterimage", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "Runs, recovery points and replicas of this site. Paths begin with the version of the API; \
         within one version fields and routes are only added."
            .to_owned(),
    );
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("aft_…")
        .description(Some("A token of `afterimage token add`."))
        .build();
    let components = ComponentsBuilder::new()
        .schema(super::Problem::name(), super::Problem::schema())
        .schema(crate::report::SettingsLine::name(), crate::report::SettingsLine::schema())
        .security_scheme(SCHEME, SecurityScheme::Http(bearer));
    OpenApiBuilder::new().info(info).components(Some(components.build())).build()
}

/// Adds what follows from the rules: the problems that every route may answer with, and the token
/// and scope that it needs.
pub(super) fn finish(mut document: OpenApi, rules: &[Rule]) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            let rule = rules.iter().find(|rule| rule.method == method && rule.path == path);
            add_problem(operation);
            if let Some(rule) = rule {
                add_rule(operation, rule);
            }
        }
    }
    document
}

/// The OpenAPI document of all routes.
pub fn document() -> OpenApi {
    routes::documented().1
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, post, delete, .. } = item;
    let all = [("GET", get), ("POST", post), ("DELETE", delete)];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn add_problem(operation: &mut Operation) {
    let reference = Ref::from_schema_name(super::Problem::name());
    let content = ContentBuilder::new().schema(Some(reference)).build();
    let response = ResponseBuilder::new()
        .description("What was refused, why, and what to do next.")
        .content("application/problem+json", content)
        .build();
    operation.responses.responses.insert("default".to_owned(), response.into());
}

fn add_rule(operation: &mut Operation, rule: &Rule) {
    let needs = match rule.access {
        Access::Open => "Needs no token.".to_owned(),
        Access::Needs(scope) => format!("Needs the scope `{scope}`."),
        Access::OfTheRun => "Needs the scope of the run.".to_owned(),
    };
    let site = match rule.whole_site {
        true => " Not for tokens that are for some machines only.",
        false => "",
    };
    let own = operation.description.take().filter(|text| !text.is_empty());
    let own = own.map(|text| format!("{text}\n\n")).unwrap_or_default();
    operation.description = Some(format!("{own}{needs}{site}"));
    let none: [&str; 0] = [];
    operation.security = Some(match rule.access {
        Access::Open => Vec::new(),
        _ => vec![SecurityRequirement::new(SCHEME, none)],
    });
}
