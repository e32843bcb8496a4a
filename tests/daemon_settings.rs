//! What the settings say of the daemon: times, limits, who is told; and the notices about them.

use std::path::Path;
use std::time::Duration;

use afterimage::settings::{
    DaemonSettings, IoPriority, LogTarget, MailSecurity, MissedPolicy, NotifyKind, NotifySettings,
    RetrySettings, Settings,
};
use afterimage::units::{RateRule, Window};

/// The notices about a file, each on one line.
fn notices(text: &str) -> Vec<String> {
    let settings = Settings::parse(text, Path::new("/etc/afterimage/x.toml"));
    let settings = settings.unwrap_or_else(|error| panic!("{error}"));
    settings.notices.iter().map(|one| format!("{}: {}", one.line, one.message)).collect()
}

#[test]
fn samples_leave_little_to_be_done_by_hand() {
    let mut found = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir("config")
        .expect("samples")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
        .collect();
    paths.sort();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a sample is text");
        let name = path.file_name().expect("a name").display().to_string();
        found.extend(notices(&text).into_iter().map(|notice| format!("{name}:{notice}")));
    }
    assert_eq!(
        found,
        ["nbd.toml:26: trigger: files-standby will only follow backups that are made by hand"]
    );
}

const MACHINE: &str =
    "[[machine.NAME.disk]]\nname = \"root\"\nsource = { image = \"/vm/NAME.raw\" }\n";

/// A file with a repository, to which `more` adds keys, and machines with these keys.
fn with_machines(repository: &str, machines: &[(&str, &str)]) -> String {
    let mut text =
        format!("[repository.main]\nurl = '/srv/a'\nencryption = 'none'\n{repository}\n");
    for (name, keys) in machines {
        text += &format!("[machine.{name}]\nrepository = 'main'\n{keys}\n");
        text += &MACHINE.replace("NAME", name);
    }
    text
}

#[test]
fn what_does_less_than_expected_is_said_once_for_each_kind() {
    let keep = "keep = { daily = 7 }";
    let unpruned = with_machines("", &[("a", keep), ("b", keep)]);
    assert_eq!(notices(&unpruned), ["7: keep: nothing prunes a, b by itself"]);
    let settings = Settings::parse(&unpruned, Path::new("/x.toml")).expect("valid");
    let hint = settings.notices[0].hint.as_deref().expect("a hint");
    assert!(hint.ends_with("or run `afterimage prune a b`"), "{hint}");
    let many: Vec<String> = (0..9).map(|number| format!("m{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), keep)).collect();
    let found = notices(&with_machines("", &many));
    assert_eq!(found, ["7: keep: nothing prunes m0, m1, m2, m3, m4 and 4 others by itself"]);

    let prune = "prune = '0 1 * * *'";
    assert_eq!(
        notices(&with_machines(prune, &[("a", keep)])),
        ["4: prune: nothing gives back the space in main by itself"]
    );
    assert_eq!(
        notices(&with_machines(&format!("{prune}\ngc = '0 2 * * *'"), &[("a", "")])),
        ["4: prune: no machine of main has `keep`, so that all points stay"]
    );
    assert_eq!(
        notices(&with_machines(&format!("{prune}\ngc = '@daily'"), &[("a", keep)])),
        [""; 0]
    );
}

#[test]
fn objectives_that_cannot_be_met_are_told() {
    let of = |keys: &str| notices(&with_machines("", &[("a", keys)]));
    assert_eq!(of("rpo = '1h'"), ["7: rpo: nothing runs by itself that keeps a within it"]);
    assert_eq!(
        of("schedule = '0 8-18 * * *'\nrpo = '1h'"),
        ["8: rpo: a will miss it: the schedule pauses for longer"]
    );
    assert_eq!(
        of("schedule = '0 * * * *'\nrpo = '2h'\nallowed = '22:00-06:00'"),
        ["8: rpo: a will miss it: `allowed` leaves out more of the day"]
    );
    assert_eq!(of("schedule = '0 * * * *'\nrpo = '1h'\nallowed = '00:00-24:00'"), [""; 0]);
    let replica = "[replica.r]\nmachine = 'a'\nrpo = '1 day'\n[[replica.r.disk]]\nname = 'root'\n\
                   target = { image = '/standby/a.raw' }\n";
    let weekly = with_machines("", &[("a", "schedule = '@weekly'")]) + replica;
    assert_eq!(notices(&weekly), ["13: rpo: r will miss it: the schedule pauses for longer"]);
    let by_hand = with_machines("", &[("a", "")]) + replica;
    assert_eq!(
        notices(&by_hand),
        [
            "11: trigger: r will only follow backups that are made by hand",
            "13: rpo: nothing runs by itself that keeps r within it",
        ]
    );
}

#[test]
fn times_that_do_not_fit_a_schedule_are_told() {
    let of = |keys: &str| notices(&with_machines("", &[("a", keys)]));
    assert_eq!(
        of("schedule = '0 12 * * *'\nallowed = '22:00-06:00'"),
        ["8: allowed: it has no time of the schedule of a"]
    );
    assert_eq!(of("schedule = '0 23 * * *'\nallowed = '22:00-06:00'"), [""; 0]);
    assert_eq!(
        of("schedule = '*/5 * * * *'\njitter = '5 min'"),
        ["8: jitter: a may still wait when the next time is due"]
    );
    assert_eq!(of("schedule = '*/5 * * * *'\njitter = '4 min'"), [""; 0]);
    assert_eq!(of("missed = 'skip'"), ["7: this has no effect: a has no schedule"]);
    let upkeep = with_machines("missed = 'skip'", &[]);
    assert_eq!(notices(&upkeep), ["4: this has no effect: main has no schedule"]);
}

#[test]
fn messages_that_nobody_gets_are_told() {
    let of = |text: &str| notices(&(with_machines("", &[]) + text));
    let hook = "[notify.webhook.a]\nurl = 'https://a.example/'\n";
    assert_eq!(of("[notify]\nreport = '07:00'\n"), ["6: report: nobody gets it"]);
    assert_eq!(of(&format!("[notify]\nreport = '07:00'\n{hook}on = ['late']\n")).len(), 1);
    assert_eq!(of(&format!("[notify]\nreport = '07:00'\n{hook}")), [""; 0]);
    assert_eq!(of(&format!("{hook}on = ['report']\n")), ["7: on: no daily report is made"]);
    assert_eq!(of(hook), [""; 0]);
    let metrics = of("[daemon]\nmetrics_file = '/x/afterimage.txt'\n");
    assert!(metrics[0].starts_with("6: metrics_file: "), "{metrics:?}");
}

#[test]
fn the_sample_of_the_daemon_says_what_it_means() {
    let settings = Settings::load(Path::new("config/daemon.toml")).expect("valid");
    let daemon = &settings.daemon;
    assert_eq!(daemon.socket, Path::new("/run/afterimage/afterimage.sock"));
    assert_eq!((daemon.runs, daemon.disk_runs, daemon.workers), (4, Some(2), Some(2)));
    assert_eq!((daemon.nice, daemon.io, daemon.log), (10, IoPriority::Idle, LogTarget::Auto));
    assert_eq!(daemon.retry, RetrySettings::default());
    let day = Window { from_min: 480, to_min: 1080 };
    let network = &settings.limits.network;
    assert_eq!(network[0], RateRule { bytes_per_s: 20_000_000, at: Some(day) });
    assert_eq!(network[1], RateRule { bytes_per_s: 200_000_000, at: None });
    assert_eq!(settings.limits.timezone, "Europe/Berlin");

    let api = settings.api.as_ref().expect("an address");
    assert_eq!(api.listen.port(), 9441);
    assert!(api.tls.is_some());
    let notify = &settings.notify;
    assert_eq!(notify.report.as_ref().map(|report| report.minute), Some(420));
    let hook = &notify.webhooks[&"ops".parse().expect("a name")];
    assert_eq!(&*hook.url, "https://hooks.example.org/afterimage");
    assert_eq!(
        format!("{} {:?}", hook.url, hook.url),
        "https://hooks.example.org/… https://hooks.example.org/…"
    );
    assert_eq!((hook.on.len(), hook.on.contains(&NotifyKind::Report)), (4, false));
    let mail = &notify.mails[&"ops".parse().expect("a name")];
    assert_eq!((mail.host.as_str(), mail.port), ("mail.example.org", 465));
    assert_eq!((mail.security, mail.to.len()), (MailSecurity::Tls, 2));
    assert_eq!(mail.login.as_ref().map(|(user, _)| user.as_str()), Some("afterimage"));

    let main = &settings.repositories[&"main".parse().expect("a name")];
    assert_eq!((main.runs, main.upkeep.verify_percent), (Some(2), 1));
    assert!(main.upkeep.prune.is_some() && main.upkeep.gc.is_some());
    let web01 = &settings.machines[&"web01".parse().expect("a name")];
    assert_eq!(web01.rpo, Some(Duration::from_secs(3600)));
    assert_eq!(web01.timing.jitter, Duration::from_secs(300));
    assert_eq!((web01.timing.missed, web01.timing.retry.times), (MissedPolicy::Run, 3));
    let archive = &settings.machines[&"archive01".parse().expect("a name")].timing;
    assert_eq!((archive.missed, archive.retry.times), (MissedPolicy::Skip, 1));
    assert_eq!(archive.allowed[0], Window { from_min: 1320, to_min: 360 });
    assert_eq!(archive.retry.wait, Duration::from_secs(60));
    let standby = &settings.replicas[&"web01-standby".parse().expect("a name")];
    assert!(standby.verify.is_some() && standby.rpo.is_some());
}

#[test]
fn without_a_word_of_the_daemon_there_are_defaults() {
    let settings = Settings::load(Path::new("config/minimal.toml")).expect("valid");
    let socket = Path::new("/var/lib/afterimage/afterimage.sock");
    assert_eq!(settings.daemon, DaemonSettings::with_socket(socket.to_owned()));
    assert_eq!((settings.daemon.runs, settings.daemon.history_days), (4, 400));
    assert_eq!((settings.api, settings.notify), (None, NotifySettings::default()));
    assert!(settings.limits.read.is_empty() && settings.limits.network.is_empty());
}

#[test]
fn what_a_part_leaves_out_is_as_in_the_daemon() {
    let text = with_machines("", &[("a", "retry = { wait = '3h' }"), ("b", "missed = 'run'")]);
    let text =
        format!("[daemon]\nmissed = 'skip'\nretry = {{ times = 5, wait_max = '2h' }}\n{text}");
    let settings = Settings::parse(&text, Path::new("/x.toml")).expect("valid");
    let timing = |name: &str| settings.machines[&name.parse().expect("a name")].timing.clone();
    assert_eq!(timing("a").missed, MissedPolicy::Skip);
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    let retry = RetrySettings { times: 5, wait: hours(3), wait_max: hours(3) };
    assert_eq!(timing("a").retry, retry);
    assert_eq!((timing("b").missed, timing("b").retry.wait_max), (MissedPolicy::Run, hours(2)));
}

#[test]
fn a_server_of_mail_is_secured_unless_it_is_on_this_host() {
    for (server, expected) in [
        ("smtps://m.example", ("m.example", 465, MailSecurity::Tls)),
        ("smtp://m.example", ("m.example", 587, MailSecurity::StartTls)),
        ("smtp://M.example:2525/", ("m.example", 2525, MailSecurity::StartTls)),
        ("smtp://localhost", ("localhost", 25, MailSecurity::None)),
        ("smtp://[::1]:1025", ("::1", 1025, MailSecurity::None)),
        ("smtps://localhost", ("localhost", 465, MailSecurity::Tls)),
        ("smtp://localhost.example.org", ("localhost.example.org", 587, MailSecurity::StartTls)),
    ] {
        let mail = "[notify.mail.a]\nfrom = 'a@b.example'\nto = 'a@b.example'\n";
        let text = format!("{}{mail}server = '{server}'\n", with_machines("", &[]));
        let settings = Settings::parse(&text, Path::new("/x.toml"));
        let settings = settings.unwrap_or_else(|error| panic!("{error}"));
        let mail = settings.notify.mails.into_values().next().expect("mail");
        assert_eq!((mail.host.as_str(), mail.port, mail.security), expected, "{server}");
    }
}

#[test]
fn webhooks_within_a_private_network_must_be_allowed() {
    let parse = |url: &str, more: &str| {
        let hook = format!("[notify.webhook.a]\nurl = '{url}'\n{more}\n");
        Settings::parse(&(with_machines("", &[]) + &hook), Path::new("/x.toml"))
    };
    for url in ["https://h.example", "http://127.0.0.1:8080/x", "http://[::1]/", "https://8.8.8.8"]
    {
        assert!(parse(url, "").is_ok(), "{url}");
    }
    // The last two are 10.0.0.1, too.
    for url in [
        "http://h.example",
        "https://10.0.0.1",
        "https://[fd00::1]/",
        "https://169.254.169.254",
        "https://167772161/",
        "https://0xa.1/",
    ] {
        assert!(parse(url, "").is_err(), "{url}");
        assert!(parse(url, "allow_private = true").is_ok(), "{url}");
    }
    for url in ["https://", "https://u@h.example", "https://u:p@127.0.0.1/", "file:///etc/passwd"] {
        assert!(parse(url, "allow_private = true").is_err(), "{url}");
    }
}

#[test]
fn a_fingerprint_is_that_of_the_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Settings::load(&path).expect("valid").fingerprint.to_string()
    };
    let text = with_machines("", &[]);
    let first = load(&text);
    assert_eq!(first, load(&text));
    assert_ne!(first, load(&format!("{text}# a comment\n")));
    assert_eq!(first, "893129a0d622bc2092b8276c7324755c0a3cc09014a3a9ac579c8ec100575ea9");
}
