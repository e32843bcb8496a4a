//! What the text tells.

use crate::promtool::{check_metrics, names};
use crate::site::{Site, minutes};
use afterimage::metrics::{MetricsFacts, gather, render, render_file};
use afterimage::report::{DaemonStatus, PauseLine};
use assert_cmd::Command;
use jiff::Timestamp;
use std::sync::Arc;

/// A site with all that there can be, and its daemon.
pub fn facts(site: &Site, made: Timestamp) -> MetricsFacts {
    let now = made.saturating_add(minutes(30)).unwrap();
    let mut facts = gather(&site.settings, now);
    for line in &mut facts.objectives {
        line.compliance_percent = Some(99.5);
    }
    let pause = PauseLine {
        subject: "machine web01".to_owned(),
        note: None,
        since: now,
        until: None,
        by: "uid:0".to_owned(),
    };
    facts.daemon = Some(DaemonStatus {
        version: "1".to_owned(),
        instance: "a".to_owned(),
        pid: 1,
        started: made,
        settings_file: "x".to_owned(),
        settings_fingerprint: "x".to_owned(),
        settings_loaded: made,
        reload_error: Some("no".to_owned()),
        running: 2,
        queued: 3,
        pauses: vec![pause],
        clock_doubt: None,
        problems: vec![],
    });
    facts
}

fn site() -> (Site, Timestamp) {
    let site = Site::new(&["db01", "web01"]);
    let made = site.back_up("web01");
    site.replicate("web01-copy");
    (site, made)
}

/// The value of the sample that begins so.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let line = line.unwrap_or_else(|| panic!("no {series} in:\n{text}"));
    line.trim().parse().unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[test]
fn the_text_tells_what_there_is_and_promtool_has_nothing_to_say() {
    let (site, made) = site();
    let text = render(&facts(&site, made));
    check_metrics(&text);
    let web01 = r#"{machine="web01",replica="web01-copy"}"#;
    let lag = value(&text, &format!("afterimage_replica_lag_seconds{web01}"));
    assert!((lag - 1800.0).abs() < 0.001, "{lag}");
    assert_eq!(value(&text, &format!("afterimage_replica_lag_bytes{web01}")), 0.0);
    assert_eq!(value(&text, &format!("afterimage_objective_rpo_seconds{web01}")), 7200.0);
    let state = r#"afterimage_objective_state{machine="db01",state="missed"}"#;
    assert_eq!(value(&text, state), 1.0);
    assert_eq!(value(&text, r#"afterimage_repository_points{repository="main"}"#), 1.0);
    assert_eq!(value(&text, r#"afterimage_repository_up{repository="main"}"#), 1.0);
    let runs = r#"afterimage_runs_total{kind="backup",status="completed"}"#;
    assert_eq!(value(&text, runs), 1.0);
    assert_eq!(value(&text, r#"afterimage_run_read_bytes_total{kind="backup"}"#), 65_536.0);
    assert_eq!(value(&text, r#"afterimage_daemon_runs{state="queued"}"#), 3.0);
    assert_eq!(value(&text, r#"afterimage_daemon_paused{subject="machine web01"}"#), 1.0);
    assert_eq!(value(&text, "afterimage_daemon_settings_reload_success "), 0.0);
    assert!(value(&text, "process_resident_memory_bytes ") > 1e6);
}

#[test]
fn a_file_holds_no_metrics_of_the_process_for_its_reader_has_its_own() {
    let (site, made) = site();
    let text = render_file(&facts(&site, made));
    check_metrics(&text);
    assert!(names(&text).iter().all(|name| name.starts_with("afterimage_")));
}

#[test]
fn the_command_writes_a_file_and_another_process_tells_the_same_of_the_past() {
    let (site, made) = site();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
        command.arg("-c").arg(site.folder.path().join("settings.toml")).args(arguments);
        command.assert().success().get_output().stdout.clone()
    };
    let printed = String::from_utf8(run(&["metrics"])).unwrap();
    check_metrics(&printed);
    let file = site.folder.path().join("afterimage.prom");
    assert!(run(&["metrics", "--to", file.to_str().unwrap()]).is_empty());
    let written = std::fs::read_to_string(&file).unwrap();
    check_metrics(&written);
    let success =
        r#"afterimage_machine_last_success_timestamp_seconds{machine="web01",kind="backup"}"#;
    assert_eq!(value(&printed, success), value(&written, success));
    assert!(value(&written, success) >= made.as_second() as f64);
}

#[test]
fn series_are_bounded_by_the_settings_and_a_large_site_is_told_quickly() {
    let (site, made) = site();
    let small = facts(&site, made);
    let mut large = small.clone();
    let mut status = (*large.status).clone();
    // What is not in the settings any more has runs, but no name that a label may hold.
    for index in 0..1000 {
        let mut runs = status.runs[0].clone();
        runs.machine = Some(format!("gone{index}").parse().unwrap());
        status.runs.push(runs);
    }
    large.status = Arc::new(status.clone());
    assert_eq!(render_file(&large).lines().count(), render_file(&small).lines().count());
    for index in 0..1000 {
        let mut machine = status.machines[1].clone();
        machine.machine = format!("gone{index}").parse().unwrap();
        status.machines.push(machine);
        let mut replica = status.replicas[1].clone();
        replica.replica = format!("copy{index}").parse().unwrap();
        status.replicas.push(replica);
        let mut line = large.objectives[1].clone();
        line.machine = format!("gone{index}").parse().unwrap();
        large.objectives.push(line);
    }
    large.status = Arc::new(status);
    let began = std::time::Instant::now();
    let text = render_file(&large);
    let took = began.elapsed();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!((15_000..30_000).contains(&series), "{series}");
    // A tenth of a second with optimisation, on a machine that has other things to do as well.
    assert!(took < std::time::Duration::from_secs(3), "{took:?}");
    check_metrics(&text);
}
