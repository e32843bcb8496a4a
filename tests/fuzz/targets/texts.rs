//! What people write: settings, schedules, points, names, recovery keys.

use afterimage::capture::Domain;
use afterimage::capture::snapshot::parse_changed;
use afterimage::point::check_note;
use afterimage::qmp::{Message, parse_message, synchronised};
use afterimage::recover::{PointChoice, choose_point};
use afterimage::settings::{
    CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, COMPRESSION_LEVELS, LOCK_DAYS_MAX, Settings, SettingsErrors,
    TimingSettings, WebhookSettings,
};
use afterimage::source::ChangedList;
use afterimage::store::{RecoveryKey, SlotLabel};
use afterimage::testing::{machine, point};
use afterimage::units::{Hex, Name, Window, format_bytes, parse_bytes};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE: &str = "/etc/afterimage/afterimage.toml";

/// A list of what changed, which a tool of the user's writes: what is accepted lies in order and
/// within the disk.
pub fn changed_list(bytes: &[u8]) -> bool {
    const DISK_BYTES: u64 = 1 << 40;
    let Ok(list) = ChangedList::parse(bytes) else { return false };
    let since = list.since;
    if let Ok(changed) = list.within(since, DISK_BYTES) {
        let extents = &changed.extents;
        assert!(extents.iter().all(|it| !it.is_empty() && it.end() <= DISK_BYTES));
        assert!(extents.windows(2).all(|pair| pair[0].end() < pair[1].start()));
    }
    true
}

/// What a command prints about changes between two snapshots: what is accepted lies in order and
/// within the disk.
pub fn changed_output(bytes: &[u8]) -> bool {
    const DISK_BYTES: u64 = 1 << 20;
    let Ok(extents) = parse_changed(bytes, DISK_BYTES) else { return false };
    assert!(extents.iter().all(|it| !it.is_empty() && it.end() <= DISK_BYTES));
    assert!(extents.windows(2).all(|pair| pair[0].end() < pair[1].start()));
    true
}

/// libvirt's description of a domain: what is accepted can be named, found and asked for.
pub fn domain(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Domain::parse(text) {
        Ok(domain) => {
            let names: BTreeSet<&str> =
                domain.disks.iter().map(|disk| disk.name.as_str()).collect();
            assert_eq!(names.len(), domain.disks.len(), "{domain:?}");
            assert!(domain.others.iter().all(|(name, _)| !names.contains(name.as_str())));
            assert!(domain.disks.iter().all(|disk| disk.path.is_absolute()), "{domain:?}");
            assert!(!domain.uuid.starts_with('-') && !domain.uuid.is_empty(), "{domain:?}");
            true
        }
        Err(told) => {
            assert!(!told.chars().any(char::is_control), "{told:?}");
            false
        }
    }
}

/// Lines of a monitor, or of the agent in a guest, which may be anybody's.
pub fn qmp(bytes: &[u8]) -> bool {
    let mut accepted = false;
    for line in bytes.split(|byte| *byte == b'\n') {
        match parse_message(line) {
            Ok(Message::Refused { reason, .. }) => {
                assert!(!reason.chars().any(char::is_control), "{reason:?}");
                accepted = true;
            }
            Ok(_) => accepted = true,
            Err(told) => assert!(told.len() < 2000, "{told}"),
        }
        // Only the very number counts.
        assert!(!(synchronised(line, 1) && synchronised(line, 2)));
    }
    accepted
}

pub fn settings(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    match Settings::parse(text, Path::new(FILE)) {
        Ok(settings) => {
            check_settings(&settings);
            true
        }
        Err(errors) => {
            check_errors(&errors, text);
            false
        }
    }
}

fn check_settings(settings: &Settings) {
    assert!(settings.state_dir.is_absolute());
    assert!(!settings.repositories.is_empty());
    let mut sources: Vec<&PathBuf> = Vec::new();
    for (name, repository) in &settings.repositories {
        assert_eq!(name, &repository.name);
        assert!(repository.path.is_absolute());
        let sizes = CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX;
        assert!(
            repository.chunk_bytes.is_none_or(|it| it.is_power_of_two() && sizes.contains(&it))
        );
        assert!(COMPRESSION_LEVELS.contains(&repository.compression_level));
        assert!(repository.gc_fill_percent <= 95);
    }
    for (name, machine) in &settings.machines {
        assert_eq!(name, &machine.name);
        assert!(settings.repositories.contains_key(&machine.repository));
        assert!(machine.disks.is_empty() == machine.libvirt.is_some());
        assert!(machine.lock_days <= LOCK_DAYS_MAX);
        assert!(machine.prune_max_percent <= 100 && machine.definition.len() <= 16);
        if let Some(keep) = &machine.keep {
            let counts =
                [keep.last, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly];
            assert!(counts.iter().any(|count| *count > 0) || keep.within.is_some());
        }
        let files = machine.disks.iter().filter_map(|disk| disk.source.file());
        sources.extend(files.map(|file| &file.path));
    }
    let mut targets: Vec<&PathBuf> = Vec::new();
    for (name, replica) in &settings.replicas {
        assert_eq!(name, &replica.name);
        let machine = &settings.machines[&replica.machine];
        let mut names: Vec<&Name> = replica.disks.iter().map(|disk| &disk.name).collect();
        let mut expected: Vec<&Name> = machine.disks.iter().map(|disk| &disk.name).collect();
        names.sort();
        expected.sort();
        assert!(
            names == expected || machine.libvirt.is_some(),
            "a replica has the disks of its machine"
        );
        targets.extend(replica.disks.iter().map(|disk| &disk.target));
    }
    assert!(!targets.iter().any(|target| sources.contains(target)), "a source is a target");
    targets.sort();
    assert!(targets.windows(2).all(|pair| pair[0] != pair[1]), "a target is there twice");
    check_daemon(settings);
    let repositories = settings.repositories.values().map(|one| &one.upkeep.timing);
    let machines = settings.machines.values().map(|one| &one.timing);
    let replicas = settings.replicas.values().map(|one| &one.timing);
    repositories.chain(machines).chain(replicas).for_each(check_timing);
}

fn check_daemon(settings: &Settings) {
    let daemon = &settings.daemon;
    assert!(daemon.socket.is_absolute() && daemon.socket.as_os_str().len() <= 107);
    assert!(daemon.runs > 0 && daemon.disk_runs != Some(0) && daemon.workers != Some(0));
    assert!(daemon.nice <= 19 && daemon.history_days > 0);
    let limits = &settings.limits;
    assert!(limits.read.iter().chain(&limits.network).all(|rule| rule.bytes_per_s >= 1000));
    if let Some(api) = &settings.api {
        assert!(api.tls.is_some() || api.listen.ip().to_canonical().is_loopback());
        assert!(api.listen.port() != 0);
    }
    let notify = &settings.notify;
    for hook in notify.webhooks.values() {
        assert!(hook.url.starts_with("https://") || hook.url.starts_with("http://"));
        let host = hook.url.split('/').nth(2).unwrap_or_default();
        assert!(
            !host.contains('@') && hook.url.to_string() == format!("{}//{host}/…", scheme(hook))
        );
        assert!(!hook.on.is_empty());
    }
    for mail in notify.mails.values() {
        assert!(mail.port != 0 && !mail.to.is_empty() && !mail.on.is_empty());
        let texts = mail.to.iter().chain([&mail.from, &mail.host]);
        assert!(texts.flat_map(|text| text.chars()).all(|c| !c.is_control()), "{mail:?}");
    }
}

fn scheme(hook: &WebhookSettings) -> &str {
    hook.url.split('/').next().unwrap_or_default()
}

fn check_timing(timing: &TimingSettings) {
    let is_window =
        |it: &Window| it.from_min < 1440 && it.to_min <= 1440 && it.from_min != it.to_min;
    assert!(timing.allowed.iter().all(is_window), "{timing:?}");
    assert!(timing.jitter.as_secs() <= 86_400);
    let retry = &timing.retry;
    assert!(!retry.wait.is_zero() && retry.wait <= retry.wait_max && retry.times <= 100);
}

fn check_errors(errors: &SettingsErrors, text: &str) {
    assert!(!errors.problems.is_empty() && errors.problems.len() <= 200);
    let lines = text.split('\n').count();
    for problem in &errors.problems {
        assert!((1..=lines + 1).contains(&problem.line), "line {} of {lines}", problem.line);
        assert!(problem.column >= 1 && !problem.message.is_empty());
        let rendered = problem.render(&errors.file);
        let disturbs = |c: char| c.is_control() && c != '\n';
        assert!(!rendered.chars().any(disturbs), "a message disturbs the terminal: {rendered:?}");
        assert!(rendered.len() < 4096, "an endless message: {} bytes", rendered.len());
    }
    assert!(!errors.to_string().is_empty());
}

/// A cron expression, in settings that are right otherwise.
pub fn schedule(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let settings = format!(
        "timezone = \"Europe/Berlin\"\n[repository.main]\nurl = \"/srv/a\"\nencryption = \"none\"\n\
         [machine.web01]\nrepository = \"main\"\nschedule = {}\n\
         allowed = \"22:00-06:00\"\nrpo = \"1h\"\njitter = \"5 min\"\n[[machine.web01.disk]]\n\
         name = \"root\"\nsource = {{ image = \"/srv/vm/root.raw\" }}\n",
        toml::Value::String(text.to_owned())
    );
    match Settings::parse(&settings, Path::new(FILE)) {
        Ok(settings) => {
            let machine = settings.machines.values().next().unwrap();
            let schedule = machine.schedule.as_ref().unwrap();
            assert_eq!(schedule.expression, text.trim());
            assert_eq!(schedule.timezone, "Europe/Berlin");
            true
        }
        Err(errors) => {
            check_errors(&errors, &settings);
            false
        }
    }
}

/// What a user writes for a point.
pub fn point_choice(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let points = [point(0x12, 1, 1_000_000_000, &[]), point(0xab, 2, 1_800_000_000, &[])];
    let mut accepted = false;
    for zone in ["UTC", "Europe/Berlin", "Pacific/Apia"] {
        let zone = jiff::tz::TimeZone::get(zone).unwrap();
        match PointChoice::parse(text, &zone) {
            Ok(choice) => {
                accepted = true;
                check_choice(&choice, &zone);
                if let Err(error) = choose_point(&points, &machine(), &choice) {
                    assert!(!error.to_string().chars().any(char::is_control));
                }
            }
            Err(error) => {
                let text = error.to_string();
                assert!(!text.chars().any(char::is_control) && text.len() < 2000, "{text:?}");
            }
        }
    }
    accepted
}

/// A choice that is written in its plainest form is the same one.
fn check_choice(choice: &PointChoice, zone: &jiff::tz::TimeZone) {
    let text = match choice {
        PointChoice::Latest => "latest".to_owned(),
        PointChoice::Sequence(number) => format!("#{number}"),
        PointChoice::Id(digits) => digits.clone(),
        PointChoice::At(time) => time.to_string(),
    };
    assert_eq!(PointChoice::parse(&text, zone).as_ref(), Ok(choice), "{text:?}");
}

/// Names, labels, notes, sizes and digits; each is kept as it is or refused.
pub fn names(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let mut accepted = false;
    if let Ok(name) = text.parse::<Name>() {
        accepted = true;
        assert_eq!(name.as_str(), text);
        let path = Path::new("/folder").join(name.as_str());
        assert_eq!(path.parent(), Some(Path::new("/folder")), "a name leaves its folder");
        assert_eq!(path.components().count(), 3);
    }
    if let Ok(label) = text.parse::<SlotLabel>() {
        accepted = true;
        assert_eq!(label.as_str(), text);
        assert!(!text.chars().any(char::is_control) && text.chars().count() <= 64);
    }
    if check_note(text).is_ok() {
        accepted = true;
        assert!(!text.chars().any(char::is_control) && text.chars().count() <= 200);
    }
    if let Some(bytes) = parse_bytes(text) {
        accepted = true;
        assert!(!format_bytes(bytes).is_empty());
        assert_eq!(parse_bytes(&bytes.to_string()), Some(bytes));
    }
    if let Ok(hex) = text.parse::<Hex<16>>() {
        accepted = true;
        assert_eq!(hex.to_string(), text.to_ascii_lowercase());
    }
    accepted
}

/// A recovery key as somebody typed it.
pub fn recovery_key(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    match RecoveryKey::parse(text) {
        Ok(key) => {
            let written = key.text();
            assert_eq!(*RecoveryKey::parse(&written).unwrap().text(), *written);
            let meant = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
            let meant: String = meant
                .map(|c| match c.to_ascii_uppercase() {
                    'O' => '0',
                    'I' | 'L' => '1',
                    other => other,
                })
                .collect();
            assert_eq!(meant, written.replace('-', ""), "a typing error was passed over");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
