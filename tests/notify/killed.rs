//! A process that is killed while it tells.

use crate::http_server::HttpServer;
use crate::site::{Site, failed, until};
use afterimage::catalog::History;
use afterimage::notify::{Notifier, Sender};
use afterimage::settings::NotifySettings;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Where the process that is killed finds its folder, the port and its number.
const CHILD: &str = "AFTERIMAGE_TEST_NOTIFIER";
const KILLS: usize = 5;

fn settings(site: &mut Site, port: u16) -> NotifySettings {
    site.webhook("ops", &format!("https://localhost:{port}/"));
    site.settings.clone()
}

/// What the process that is killed does: it tells without an end, and says what is durable.
fn tell(folder: &str, port: u16, number: usize) {
    let mut site = Site::new();
    let settings = settings(&mut site, port);
    let mut settings = settings;
    for webhook in settings.webhooks.values_mut() {
        let folder = std::path::Path::new(folder);
        webhook.authority = Some(folder.join("good/ca-cert.pem"));
        webhook.secret_file = Some(folder.join("ops.secret"));
    }
    let history = Arc::new(History::open(folder.as_ref()).unwrap());
    let sender = Sender::this_host();
    let notifier = Notifier::start(&settings, sender, history, site.now).unwrap();
    for count in 0_u32.. {
        let task = format!("m{number}-{count}");
        notifier.observe(&[failed(&task)], site.now).unwrap();
        println!("\ndurable {task}");
    }
}

#[test]
fn a_killed_process_loses_nothing_and_tells_nothing_twice_that_was_acknowledged() {
    if let Ok(place) = std::env::var(CHILD) {
        let parts: Vec<&str> = place.split('|').collect();
        return tell(parts[0], parts[1].parse().unwrap(), parts[2].parse().unwrap());
    }
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    settings(&mut site, server.port);
    let test =
        "killed::a_killed_process_loses_nothing_and_tells_nothing_twice_that_was_acknowledged";
    let mut durable = Vec::new();
    for number in 0..KILLS {
        let place = format!("{}|{}|{number}", site.folder.path().display(), server.port);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, place)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told =
            lines.filter_map(|line| line.unwrap().strip_prefix("durable ").map(str::to_owned));
        // Each time at another moment of what it does.
        let wanted = 10 + number * 7;
        durable.extend(told.take(wanted));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let notifier = site.notifier();
    until("an empty outbox", || notifier.channels().unwrap()[0].record.waiting == 0);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for title in server.titles() {
        *times.entry(title).or_default() += 1;
    }
    for task in &durable {
        assert!(times.contains_key(&format!("backup of {task} failed")), "{task} is lost");
    }
    // One message a kill may have been under way: acknowledged, and that not noted yet.
    let doubles: usize = times.values().map(|times| times - 1).sum();
    assert!(doubles <= KILLS, "{doubles} doubles");
    assert!(durable.len() >= KILLS * 10);
}
