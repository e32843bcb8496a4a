//! Mail, against a server that speaks SMTP.

use crate::common::authority::Authority;
use crate::site::{Site, failed, until, well};
use crate::smtp_server::{Manner, SmtpServer};
use afterimage::settings::MailSecurity;
use jiff::SignedDuration;
use std::time::{Duration, Instant};

/// `\0operator\0pa55word`, as base64 has it.
const LOGIN: &str = "AG9wZXJhdG9yAHBhNTV3b3Jk";

fn log_in(site: &mut Site) {
    let file = site.folder.path().join("mail.password");
    std::fs::write(&file, "pa55word\n").unwrap();
    for mail in site.settings.mails.values_mut() {
        mail.login = Some(("operator".into(), file.clone()));
    }
}

fn headers(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.is_empty()).collect()
}

fn header<'a>(text: &'a str, name: &str) -> &'a str {
    let prefix = format!("{name}: ");
    let found: Vec<_> =
        headers(text).into_iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
    assert_eq!(found.len(), 1, "{name} in {text}");
    found[0]
}

#[test]
fn mail_goes_encrypted_to_all_recipients_and_reads_well() {
    let mut site = Site::new();
    let manner = Manner { tls: true, login: Some(LOGIN), ..Manner::default() };
    let server = SmtpServer::start(site.tls(), manner);
    let mail = site.mail("ops", server.port, MailSecurity::Tls);
    mail.to = vec!["ops@example.org".into(), "Boss <boss@example.org>".into()];
    log_in(&mut site);
    let notifier = site.notifier();
    notifier.observe(&[failed("web01"), well("web01")], site.now).unwrap();
    until("two mails", || server.mails().len() == 2);
    let [began, ended] = &server.mails()[..] else { panic!() };
    assert!(began.encrypted && began.login.is_some());
    assert_eq!(began.from, "MAIL FROM:<afterimage@example.org>");
    assert_eq!(began.to, ["RCPT TO:<ops@example.org>", "RCPT TO:<boss@example.org>"]);
    let text = &began.text;
    assert_eq!(header(text, "Subject"), "[afterimage host01] backup of web01 failed");
    assert_eq!(header(text, "Date"), "Sat, 28 Nov 2026 08:00:00 +0000");
    assert_eq!(header(text, "Auto-Submitted"), "auto-generated");
    assert!(header(text, "Content-Type").starts_with("text/plain"));
    for part in ["/dev/vda cannot be read", "Next: afterimage backup web01", "Host: host01"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let id = header(text, "Message-ID");
    assert!(id.starts_with('<') && id.ends_with(".ops@example.org>"), "{id}");
    assert_eq!(header(&ended.text, "In-Reply-To"), id);
    assert_eq!(header(&ended.text, "References"), id);
    assert_ne!(header(&ended.text, "Message-ID"), id);
    let subject = header(&ended.text, "Subject");
    assert_eq!(subject, "[afterimage host01] over: backup of web01 succeeds again");
}

#[test]
fn starttls_hides_all_that_matters() {
    let mut site = Site::new();
    let manner = Manner { start_tls: true, login: Some(LOGIN), ..Manner::default() };
    let server = SmtpServer::start(site.tls(), manner);
    site.mail("ops", server.port, MailSecurity::StartTls);
    log_in(&mut site);
    assert_eq!(site.test().problem, None);
    let mails = server.mails();
    assert!(mails[0].encrypted && mails[0].login.is_some());
    let overheard = server.overheard();
    assert_eq!(overheard.lines().count(), 2, "{overheard}");
    assert!(overheard.ends_with("STARTTLS\n"));
}

#[test]
fn without_the_encryption_that_is_asked_for_nothing_is_said() {
    let mut site = Site::new();
    let plain = SmtpServer::start(None, Manner { login: Some(LOGIN), ..Manner::default() });
    site.mail("ops", plain.port, MailSecurity::StartTls);
    log_in(&mut site);
    assert!(site.test_error().contains("STARTTLS"));
    site.sender.attempt_max = Duration::from_secs(2);
    site.mail("ops", plain.port, MailSecurity::Tls);
    log_in(&mut site);
    site.test_error();
    let overheard = plain.overheard();
    assert!(!overheard.contains("AUTH") && !overheard.contains("MAIL"), "{overheard}");
    // Whom nobody vouches for is told nothing either.
    let bad = Authority::new(site.folder.path(), "bad").path("ca-cert.pem");
    for (tls, start_tls, security) in
        [(true, false, MailSecurity::Tls), (false, true, MailSecurity::StartTls)]
    {
        let manner = Manner { tls, start_tls, login: Some(LOGIN), ..Manner::default() };
        let server = SmtpServer::start(site.tls(), manner);
        site.mail("ops", server.port, security).authority = Some(bad.clone());
        log_in(&mut site);
        let error = site.test_error();
        assert!(error.contains("certificate"), "{error}");
        assert!(server.mails().is_empty());
    }
}

#[test]
fn what_an_attacker_adds_before_the_encryption_is_not_believed() {
    let mut site = Site::new();
    let injected = "250-mail.example.org\r\n250 AUTH PLAIN\r\n";
    let manner = Manner { start_tls: true, injected, login: Some(LOGIN), ..Manner::default() };
    let server = SmtpServer::start(site.tls(), manner);
    site.mail("ops", server.port, MailSecurity::StartTls);
    log_in(&mut site);
    site.test_error();
    assert!(server.mails().is_empty());
}

#[test]
fn a_server_on_this_host_may_go_without_encryption_and_no_other() {
    let mut site = Site::new();
    let server = SmtpServer::start(None, Manner::default());
    site.mail("ops", server.port, MailSecurity::None).authority = None;
    assert_eq!(site.test().problem, None);
    assert!(!server.mails()[0].encrypted);
    // An address of another host, to which nothing is sent.
    site.mail("ops", 25, MailSecurity::None).host = "10.255.255.1".into();
    assert!(site.test_error().contains("without TLS"));
}

#[test]
fn a_mail_that_is_refused_for_now_arrives_later_once() {
    let mut site = Site::new();
    let server = SmtpServer::start(None, Manner::default());
    server.refuse_next(["451 not now", "452 no room"]);
    site.mail("ops", server.port, MailSecurity::None);
    let notifier = site.notifier();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    let record = || notifier.channels().unwrap().remove(0).record;
    for (failures, why) in [(1, "451"), (2, "452")] {
        until("a failure", || record().failures == failures);
        assert!(record().last_error.unwrap().contains(why));
        site.pass(SignedDuration::from_mins(1));
        notifier.tick(site.now).unwrap();
    }
    until("an empty outbox", || record().waiting == 0);
    site.pass(SignedDuration::from_hours(1));
    notifier.tick(site.now).unwrap();
    assert_eq!((server.mails().len(), server.connections()), (1, 3));
}

#[test]
fn a_recipient_that_does_not_exist_keeps_nothing_from_the_others() {
    let mut site = Site::new();
    let server = SmtpServer::start(None, Manner::default());
    let mail = site.mail("ops", server.port, MailSecurity::None);
    mail.to = vec!["nobody@example.org".into(), "ops@example.org".into()];
    assert!(site.test_error().contains("not taken for nobody@example.org"));
    assert_eq!(server.mails()[0].to, ["RCPT TO:<ops@example.org>"]);
    site.mail("ops", server.port, MailSecurity::None).to = vec!["nobody@example.org".into()];
    let error = site.test_error();
    assert!(error.contains("refused") && error.contains("no such user"), "{error}");
    assert_eq!(server.mails().len(), 1);
}

#[test]
fn a_login_that_fails_tells_no_secret() {
    let mut site = Site::new();
    let manner = Manner { tls: true, login: Some("another"), ..Manner::default() };
    let server = SmtpServer::start(site.tls(), manner);
    site.mail("ops", server.port, MailSecurity::Tls);
    log_in(&mut site);
    let error = site.test_error();
    assert!(error.contains("535") && error.contains("operator"), "{error}");
    assert!(!error.contains("pa55word") && !error.contains(LOGIN), "{error}");
    assert!(server.mails().is_empty());
    std::fs::remove_file(site.folder.path().join("mail.password")).unwrap();
    assert!(site.test_error().contains("mail.password"));
}

#[test]
fn a_server_that_never_ends_or_never_begins_costs_neither_memory_nor_time() {
    let mut site = Site::new();
    let endless = SmtpServer::start(None, Manner { endless: true, ..Manner::default() });
    site.mail("ops", endless.port, MailSecurity::None);
    assert!(site.test_error().contains("more than 262144 bytes"));
    let silent = SmtpServer::start(None, Manner { silent: true, ..Manner::default() });
    site.mail("ops", silent.port, MailSecurity::None);
    site.sender.attempt_max = Duration::from_secs(1);
    let began = Instant::now();
    assert!(site.test_error().contains("within 1 s"));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[test]
fn no_text_becomes_a_header_or_a_command() {
    let mut site = Site::new();
    let server = SmtpServer::start(None, Manner::default());
    site.mail("ops", server.port, MailSecurity::None);
    site.sender.host = "host\r\nBcc: all@example.org".into();
    let notifier = site.notifier();
    let mut found = failed("x\r\nX-Injected: yes\r\n\r\nbody ü");
    let wrong = found.wrong.as_mut().unwrap();
    wrong.text = "first\r\n.\r\nMAIL FROM:<evil@example.org>\r\n".into();
    notifier.observe(&[found], site.now).unwrap();
    until("a mail", || !server.mails().is_empty());
    until("an empty outbox", || notifier.channels().unwrap()[0].record.waiting == 0);
    let mails = server.mails();
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    assert_eq!(mail.from, "MAIL FROM:<afterimage@example.org>");
    for line in headers(&mail.text) {
        assert!(!line.starts_with("X-Injected") && !line.starts_with("Bcc"), "{}", mail.text);
    }
    for address in ["ops@example.org\r\nBcc: all@example.org", "ü@example.org", "nobody at all"] {
        site.mail("ops", server.port, MailSecurity::None).to = vec![address.into()];
        assert!(site.test_error().contains("no address for mail"), "{address}");
    }
}
