//! Tokens of the API, and the log of what was done with them.

use super::App;
use super::failure::{Failure, with_reasons};
use super::times::{Side, instant};
use super::token_args::{AuditArgs, TokenAddArgs, TokenCommand};
use super::token_tables;
use crate::audit::{AuditEntry, AuditError, AuditLog, AuditOutcome, Rotation, read_lines, verify};
use crate::catalog::{Added, History, RunStatus, Scope, TokenGrant};
use crate::fsio::RealFileSystem;
use crate::operations::{OperationError, known};
use crate::report::{Action, ExitCode, Message, NewToken, Summary, TokenLine};
use crate::units::Name;
use jiff::Timestamp;
use std::collections::BTreeSet;

/// Makes, lists or revokes tokens. They count at once, whether a daemon runs or not.
pub(super) fn run(app: &App, command: TokenCommand) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let history = History::open(&app.settings.state_dir).map_err(OperationError::from)?;
    match command {
        TokenCommand::Add(args) => add(app, &history, args, started)?,
        TokenCommand::List => list(app, &history, started)?,
        TokenCommand::Remove { name } => remove(app, &history, &name, started)?,
    }
    let summary = Summary::new(Action::Token, RunStatus::Completed, started);
    app.output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

fn add(app: &App, history: &History, args: TokenAddArgs, now: Timestamp) -> Result<(), Failure> {
    let machines = args.machines.iter().map(|typed| {
        known(&app.settings, "machine", &app.settings.machines, typed).map(|(name, _)| name.clone())
    });
    let machines: BTreeSet<Name> = machines.collect::<Result<_, _>>()?;
    let expires = args.expires.as_deref().map(|typed| instant(typed, Side::After)).transpose()?;
    if expires.is_some_and(|expires| expires <= now) {
        return Err(Failure::usage("a token that ends in the past opens nothing"));
    }
    let grant = TokenGrant {
        scopes: args.scopes.into_iter().collect(),
        machines: (!machines.is_empty()).then_some(machines),
        created: now,
        expires,
    };
    let scopes: Vec<&str> = grant.scopes.iter().copied().map(Scope::word).collect();
    record(app, "token add", &format!("{} ({})", args.name, scopes.join(", ")), now)?;
    match history.add_token(&args.name, &grant).map_err(OperationError::from)? {
        Added::Token(secret) => {
            app.output.result(secret.reveal());
            app.output.warning("it is shown only now; send it as `Authorization: Bearer TOKEN`");
            let token = secret.reveal().to_owned();
            app.output.message(&Message::NewToken(NewToken { name: args.name, token }));
            Ok(())
        }
        Added::NameTaken => Err(Failure::usage(format!(
            "there is a token {0} already; name another, or revoke it: `afterimage token remove {0}`",
            args.name
        ))),
        Added::TooMany => Err(Failure::new(
            ExitCode::Failed,
            "there are too many tokens; revoke some: `afterimage token remove NAME`",
        )),
    }
}

fn list(app: &App, history: &History, now: Timestamp) -> Result<(), Failure> {
    let tokens = history.tokens().map_err(OperationError::from)?;
    let lines: Vec<TokenLine> =
        tokens.into_iter().map(|token| TokenLine::new(token, now)).collect();
    match lines.is_empty() {
        true => app.output.sentence("there are no tokens; make one: `afterimage token add NAME`"),
        false => app.output.result(&token_tables::tokens(&lines)),
    }
    for line in lines {
        app.output.message(&Message::Token(line));
    }
    Ok(())
}

fn remove(app: &App, history: &History, name: &Name, now: Timestamp) -> Result<(), Failure> {
    record(app, "token remove", name.as_str(), now)?;
    match history.revoke_token(name, now).map_err(OperationError::from)? {
        true => {
            app.output.sentence(&format!("{name}: revoked; it opens nothing any more"));
            Ok(())
        }
        false => Err(Failure::usage(format!(
            "there is no token {name} that counts; `afterimage token list` shows all"
        ))),
    }
}

fn log(app: &App) -> AuditLog {
    AuditLog::new(&RealFileSystem::shared(), &app.settings.state_dir, Rotation::default())
}

/// Writes down what is going to be done; where that fails it is not done.
fn record(app: &App, what: &str, subject: &str, now: Timestamp) -> Result<(), Failure> {
    let who = format!("uid:{}", rustix::process::getuid().as_raw());
    let mut entry = AuditEntry::new(who, what, AuditOutcome::Asked);
    entry.subject = Some(subject.to_owned());
    log(app).record(now, &entry)?;
    Ok(())
}

/// Shows the newest lines of the audit log, or checks all of it.
pub(super) fn audit(app: &App, args: &AuditArgs) -> Result<ExitCode, Failure> {
    let started = Timestamp::now();
    let log = log(app);
    let mut summary = Summary::new(Action::Audit, RunStatus::Completed, started);
    if args.verify {
        let verdict = verify(&log)?;
        if let Some(broken) = &verdict.broken {
            let reason = format!(
                "{}, line {}: {}; {} lines before it are in order, what follows was not looked at",
                broken.file, broken.line, broken.reason, verdict.lines
            );
            app.output.message(&Message::AuditVerdict(verdict));
            return Err(Failure::new(ExitCode::Failed, reason));
        }
        app.output.result(&token_tables::verdict(&verdict));
        app.output.message(&Message::AuditVerdict(verdict));
    } else {
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let lines = read_lines(&log, None, limit)?;
        match lines.is_empty() {
            true => app.output.sentence("nothing was asked of the daemon yet"),
            false => app.output.result(&token_tables::audit(&lines)),
        }
        for line in lines {
            app.output.message(&Message::Audit(line));
        }
    }
    summary.ended = Timestamp::now();
    app.output.message(&Message::Summary(summary));
    Ok(ExitCode::Done)
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        Self::new(ExitCode::Failed, with_reasons(&error))
    }
}
