//! Prometheus' own tool checks the text, the rules and the dashboard's metrics.

use crate::site::Site;
use crate::text::facts;
use afterimage::metrics::render;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs `promtool` and gives back what it says; it must succeed.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("promtool: {error}; run `bash tests/run --install`"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// The text follows the format and the conventions.
#[track_caller]
pub fn check_metrics(text: &str) {
    assert_eq!(promtool(&["check", "metrics"], text), "");
}

/// Names of the metrics that a text holds.
pub fn names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.split(['{', ' ']).next().unwrap_or_default().to_owned();
    samples.map(name).collect()
}

/// Words of an expression that are names of metrics of afterimage, or a pattern of them.
fn mentioned(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("afterimage_")).map(str::to_owned).collect()
}

fn all_names() -> BTreeSet<String> {
    let site = Site::new(&["web01"]);
    let made = site.back_up("web01");
    site.replicate("web01-copy");
    let settings = &site.settings;
    let progress = afterimage::progress::Progress::default();
    let (scope, repository) = (afterimage::operations::VerifyScope::All, "main".parse().unwrap());
    afterimage::operations::verify_whole(settings, &repository, scope, &progress, &mut |_| {})
        .unwrap();
    names(&render(&facts(&site, made)))
}

/// All strings below `key` in a document.
fn strings(value: &serde_json::Value, key: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                match value {
                    serde_json::Value::String(text) if name == key => found.push(text.clone()),
                    _ => strings(value, key, found),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|it| strings(it, key, found)),
        _ => {}
    }
}

#[test]
fn the_rules_are_right_and_do_what_their_tests_say() {
    let said = promtool(&["check", "rules", "config/prometheus-rules.yml"], "");
    assert!(said.contains("SUCCESS: 16 rules found"), "{said}");
    let files = ["tests/metrics/rules-test.yml", "tests/metrics/rules-days-test.yml"];
    let mut tests = String::new();
    for file in files {
        promtool(&["test", "rules", file], "");
        tests += &std::fs::read_to_string(file).unwrap();
    }
    let rules = std::fs::read_to_string("config/prometheus-rules.yml").unwrap();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let is_tested = tests.contains(&format!("alertname: {alert}\n"));
        assert!(is_tested, "{alert} has no test");
    }
}

#[test]
fn rules_and_the_dashboard_use_only_metrics_that_exist() {
    let known = all_names();
    let rules = std::fs::read_to_string("config/prometheus-rules.yml").unwrap();
    // Without the alternatives of a pattern, which is no name.
    let pattern = "afterimage_(machine|replica|repository)_failed_runs";
    assert!(rules.contains(pattern));
    let rules = mentioned(&rules.replace(pattern, "afterimage_machine_failed_runs"));
    let text = std::fs::read_to_string("config/grafana-dashboard.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    strings(&dashboard, "query", &mut expressions);
    assert!(expressions.len() > 20, "{expressions:?}");
    let used: BTreeSet<String> = expressions.iter().flat_map(|it| mentioned(it)).collect();
    assert!(used.len() > 15, "{used:?}");
    let missing: Vec<_> = rules.union(&used).filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} not in {known:?}");
}

#[test]
fn each_expression_of_the_dashboard_is_one_that_prometheus_understands() {
    let text = std::fs::read_to_string("config/grafana-dashboard.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    let rules = expressions.iter().enumerate().map(|(index, expression)| {
        let expression = expression.replace("$__rate_interval", "5m").replace("$__range", "1h");
        let quoted = serde_json::to_string(&expression).unwrap();
        format!("  - record: dashboard:{index}\n    expr: {quoted}\n")
    });
    let rules: String = rules.collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, format!("groups:\n- name: dashboard\n  rules:\n{rules}")).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()], "");
}

#[test]
fn the_dashboard_has_what_an_import_needs() {
    let text = std::fs::read_to_string("config/grafana-dashboard.json").unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus");
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    assert_eq!(dashboard["id"], serde_json::Value::Null);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "panels lie over each other: {panel}");
            }
        }
    }
}
